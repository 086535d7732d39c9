"""Surveys the task queues periodically while this instance leads, in a thread: workers answer slowly."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ha_monitor.broker.survey import survey
from ha_monitor.config.schema import Config
from ha_monitor.errors import HaMonitorError
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.threads import ServiceThread, Threads

FIRST_LOOK = 1.0
"""Seconds between two checks whether this instance leads."""


class Surveyor:
    """Surveys from the first `ensure_running` until `stop`."""

    def __init__(self, config: Config, telemetry: Telemetry, failed: Callable[[str], None], threads: Threads) -> None:
        """:param failed: called with the reason when surveys begin to fail."""
        self._config = config
        self._telemetry = telemetry
        self._failed = failed
        self._stop = threading.Event()
        self._thread = ServiceThread(threads, "surveyor", self._run)

    def ensure_running(self) -> None:
        """Start the thread if it is not running."""
        self._thread.ensure_running()

    def stop(self) -> None:
        """Stop surveying. Does not wait for a survey in progress."""
        self._stop.set()

    def _run(self) -> None:
        wait, works = FIRST_LOOK, True
        while not self._stop.wait(wait):
            if not self._telemetry.is_leader():
                wait = FIRST_LOOK
                continue
            wait = self._config.metrics.survey_interval
            try:
                self._telemetry.surveyed(survey(self._config, self._telemetry.known_queues()))
                works = True
            except HaMonitorError as error:
                if works:
                    self._failed(str(error))
                works = False
