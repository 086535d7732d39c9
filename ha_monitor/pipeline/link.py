"""A connection to a service that may be away: made with growing pauses, and given up when it broke."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ha_monitor.clock import Clock
from ha_monitor.errors import HaMonitorError
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.backoff import Backoff
from ha_monitor.pipeline.outage import Outage
from ha_monitor.pipeline.report import Report


class Link(ABC):
    """What is the same for each connection; a subclass says what connecting and giving up are."""

    def __init__(
        self, service: str, line: str, *, first: float, longest: float, report: Report, logger: Logger, clock: Clock
    ) -> None:
        """
        :param service: what the supervisor is told to be waited for.
        :param line: the event of the lines about it being away.
        :param first: seconds that the first pause between two attempts lasts at most.
        :param longest: seconds that any pause lasts at most.
        """
        self._service = service
        self._backoff = Backoff(clock, first, longest)
        self._outage = Outage(line, logger, clock)
        self._report = report
        self._logger = logger
        self._clock = clock

    def remaining(self) -> float:
        """Seconds until the next attempt to connect; 0 if it is due."""
        return self._backoff.remaining()

    def connect(self) -> bool:
        """Connect, if the time for it has come; whether it did. Blocks.

        :raises HaMonitorError: as the subclass says; `lost` is to be told of it.
        """
        if self.remaining():
            return False
        self._open()
        return True

    def lost(self, error: HaMonitorError) -> None:
        """Give the connection up, or the attempt to make it: the next one comes after a pause."""
        reason = str(error)
        self._outage.failed(reason, self._backoff.failed())
        self._unhealthy(reason)
        self._report.waiting(self._service, self._backoff.failing_since, reason)
        self._close()

    def _returned(self) -> dict[str, float] | None:
        """The service is back. Returns what the line about it says, as `Outage.over`; None for no line."""
        self._backoff.succeeded()
        return self._outage.over()

    @abstractmethod
    def _open(self) -> None:
        """Connect, and say so."""

    @abstractmethod
    def _close(self) -> None:
        """Close the connection, and forget what went with it. Never raises."""

    @abstractmethod
    def _unhealthy(self, problem: str) -> None:
        """The instance is not ready, for that reason."""
