"""A connection to a service that may be unavailable: retried with exponential backoff, closed after an error.

It is made in a thread, so that the loop can renew its lease, notify the watchdog and handle signals meanwhile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic

from ha_monitor.clock import Clock
from ha_monitor.dialing import Connected, Dialed, Dialing
from ha_monitor.errors import HaMonitorError
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.backoff import Backoff
from ha_monitor.pipeline.outage import Outage
from ha_monitor.pipeline.report import Report
from ha_monitor.threads import CallThread

MAX_WAIT = 0.1
"""Maximum seconds to wait for an attempt before the loop starts a new turn."""
SLOW_AFTER = 5.0
"""Seconds after which an attempt that is still under way is reported."""


class Link(ABC, Generic[Connected]):
    """What all connections have in common; a subclass defines how a connection is opened and closed."""

    def __init__(
        self,
        service: str,
        name: str,
        line: str,
        *,
        first_backoff: float,
        max_backoff: float,
        report: Report,
        logger: Logger,
        clock: Clock,
        thread: CallThread,
    ) -> None:
        """
        :param service: the service's name in the supervisor's status line.
        :param name: the name of its section in the configuration.
        :param line: the name of the log event of an outage.
        :param first_backoff: upper limit of the first pause between two attempts, in seconds.
        :param max_backoff: upper limit of any pause, in seconds.
        :param thread: the thread that connects.
        """
        self._service = service
        self._name = name
        # The first retry is at once. For example, a deleted queue must be declared again at once: until then, events
        # are lost.
        self._backoff = Backoff(clock, first_backoff, max_backoff, at_once=True)
        self._outage = Outage(line, logger, clock)
        self._dialing: Dialing[Connected] = Dialing(thread, clock)
        self._is_slow = False
        self._report = report
        self._logger = logger
        self._clock = clock

    def remaining(self) -> float:
        """Seconds until the next attempt to connect is due; 0 if it is due."""
        return self._backoff.remaining()

    def connect(self) -> bool:
        """Connect if an attempt is due, or continue the attempt under way. Returns whether it has succeeded.

        Call it repeatedly. It waits for a moment; without a thread, until the attempt has ended.

        :raises HaMonitorError: as the subclass says; the caller must pass it to `lost`.
        """
        if not self._dialing.is_busy:
            if self.remaining():
                return False
            self._is_slow = False
            self._dialing.begin(self._dial)
        dialed = self._dialing.result(MAX_WAIT)
        if dialed is None:
            self._report_if_slow()
            return False
        self._open(dialed.use())
        return True

    def _report_if_slow(self) -> None:
        if self._is_slow or self._dialing.duration < SLOW_AFTER:
            return
        self._is_slow = True
        reason = (
            f"still connecting after {SLOW_AFTER:g} s: the host, or the name server for {self._name}.url, does not "
            "answer"
        )
        self._outage.lasts(reason)
        self._unhealthy(reason)
        self._report.waiting(self._service, self._clock.monotonic() - SLOW_AFTER, reason)

    def lost(self, error: HaMonitorError) -> None:
        """The connection broke or could not be made: close it, and schedule the next attempt."""
        reason = str(error)
        self._outage.failed(reason, self._backoff.failed())
        self._unhealthy(reason)
        self._report.waiting(self._service, self._backoff.failing_since, reason)
        self.close()

    def close(self) -> None:
        """Close the connection, and give up an attempt that is under way. Never raises."""
        self._dialing.drop()
        self._close()

    def _returned(self) -> dict[str, float] | None:
        """The service is available again. Returns the fields of its line, as `Outage.over` does; None for no line."""
        self._backoff.succeeded()
        return self._outage.over()

    @abstractmethod
    def _dial(self) -> Dialed[Connected]:
        """Make a connection. Blocks. Runs in a thread, so it must not touch anything that the loop uses."""

    @abstractmethod
    def _open(self, connected: Connected) -> None:
        """The connection is now in use: do what comes first, and log it."""

    @abstractmethod
    def _close(self) -> None:
        """Close the connection, and drop what is valid only with it. Never raises."""

    @abstractmethod
    def _unhealthy(self, problem: str) -> None:
        """The instance is not ready because of this problem."""
