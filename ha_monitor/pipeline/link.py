"""A connection to a service that may be unavailable: retried after growing pauses, closed after an error."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ha_monitor.clock import Clock
from ha_monitor.errors import HaMonitorError
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.backoff import Backoff
from ha_monitor.pipeline.outage import Outage
from ha_monitor.pipeline.report import Report


class Link(ABC):
    """What all connections have in common; a subclass defines how one is opened and closed."""

    def __init__(
        self, service: str, line: str, *, first: float, longest: float, report: Report, logger: Logger, clock: Clock
    ) -> None:
        """
        :param service: its name in the supervisor's status line.
        :param line: name of the log event of an outage.
        :param first: upper limit of the first pause between two attempts in seconds.
        :param longest: upper limit of any pause in seconds.
        """
        self._service = service
        # A queue that was deleted, for one, must be declared at once: until then, events are lost.
        self._backoff = Backoff(clock, first, longest, at_once=True)
        self._outage = Outage(line, logger, clock)
        self._report = report
        self._logger = logger
        self._clock = clock

    def remaining(self) -> float:
        """Seconds until the next attempt to connect; 0 if it is due."""
        return self._backoff.remaining()

    def connect(self) -> bool:
        """Connect if an attempt is due; returns whether it did. Blocks.

        :raises HaMonitorError: as the subclass says; the caller must pass it to `lost`.
        """
        if self.remaining():
            return False
        self._open()
        return True

    def lost(self, error: HaMonitorError) -> None:
        """The connection broke, or could not be made. Close it; the next attempt comes after a pause."""
        reason = str(error)
        self._outage.failed(reason, self._backoff.failed())
        self._unhealthy(reason)
        self._report.waiting(self._service, self._backoff.failing_since, reason)
        self._close()

    def _returned(self) -> dict[str, float] | None:
        """The service is back. Returns the fields of the line about it, as `Outage.over` does; None for no line."""
        self._backoff.succeeded()
        return self._outage.over()

    @abstractmethod
    def _open(self) -> None:
        """Connect, and log that."""

    @abstractmethod
    def _close(self) -> None:
        """Close the connection, and drop what is only valid with it. Never raises."""

    @abstractmethod
    def _unhealthy(self, problem: str) -> None:
        """The instance is not ready, for that reason."""
