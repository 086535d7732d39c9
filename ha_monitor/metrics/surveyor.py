"""Looks at the queues of tasks every now and then while this instance leads, in a thread: workers answer slowly."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ha_monitor.broker.survey import survey
from ha_monitor.config.schema import Config
from ha_monitor.errors import HaMonitorError
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.threads import ServiceThread, Threads

FIRST_LOOK = 1.0
"""Seconds between two questions whether this instance leads."""


class Surveyor:
    """Looks once `ensure_running` was called, until `stop`."""

    def __init__(self, config: Config, telemetry: Telemetry, failed: Callable[[str], None], threads: Threads) -> None:
        """:param failed: is told the reason when looking begins to fail."""
        self._config = config
        self._telemetry = telemetry
        self._failed = failed
        self._stop = threading.Event()
        self._thread = ServiceThread(threads, "surveyor", self._run)

    def ensure_running(self) -> None:
        """See that it looks."""
        self._thread.ensure_running()

    def stop(self) -> None:
        """Look no more. Does not wait for a look under way."""
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
