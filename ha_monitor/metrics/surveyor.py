"""Surveys the task queues periodically while this instance leads, in a thread: workers answer slowly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ha_monitor.broker.survey import Survey, survey
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerBlocked, HaMonitorError
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.threads import ServiceThread, Threads

FIRST_LOOK = 1.0
"""Seconds between two checks whether this instance leads, and knows what to ask about."""


class Gate(Protocol):
    """Knows whether the broker has an alarm."""

    def unless_blocked(self, ask: Callable[[], Survey]) -> Survey:
        """Ask, in any thread.

        :raises BrokerBlocked: if the broker accepts nothing; the implementation reports the alarm.
        """


class Surveyor:
    """Surveys from the first `ensure_running` until `stop`."""

    def __init__(
        self,
        config: Config,
        telemetry: Telemetry,
        failed: Callable[[str], None],
        threads: Threads,
        *,
        gate: Gate,
    ) -> None:
        """
        :param failed: called with the reason when surveys begin to fail.
        :param gate: knows whether the broker can be asked.
        """
        self._gate = gate
        self._config = config
        self._telemetry = telemetry
        self._failed = failed
        self._works = True
        """Whether the latest survey did not fail."""
        self._stop = threading.Event()
        self._thread = ServiceThread(threads, "surveyor", self._run)

    def ensure_running(self) -> None:
        """Start the thread if it is not running."""
        self._thread.ensure_running()

    def stop(self) -> None:
        """Stop surveying. Does not wait for a survey in progress."""
        self._stop.set()

    def _run(self) -> None:
        wait = FIRST_LOOK
        while not self._stop.wait(wait):
            wait = self.step()

    def step(self) -> float:
        """Survey, if this instance leads and knows what to ask about. Returns the seconds until the next step."""
        asked = self._telemetry.to_survey()
        if asked is None:
            return FIRST_LOOK
        try:
            known = [*asked.known, *self._config.metrics.queues]
            found = self._gate.unless_blocked(partial(survey, self._config, known, asked.waiting))
            self._telemetry.surveyed(found, asked.asked_at)
            self._works = True
        except BrokerBlocked:
            pass  # the gate reports the alarm
        except HaMonitorError as error:
            if self._works:
                self._failed(str(error))
            self._works = False
        return self._config.metrics.survey_interval
