"""Broadcasts to the workers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from ha_monitor.broker.remote_control import remote_control, wait_while_blocked
from ha_monitor.clock import Clock
from ha_monitor.config.schema import Broker
from ha_monitor.errors import BrokerBlocked, HaMonitorError, class_and_reason
from ha_monitor.threads import Threads

ANSWER_TIMEOUT = 2.0
"""Seconds to wait for the workers' answers."""
ATTEMPTS = 5
"""How often workers are asked before their silence is reported: they may be starting, or busy."""
MAX_HOLD = 300.0
"""Seconds after which a connection that the broker blocks is replaced, since nothing shows whether the network has
dropped it. Not sooner: the broker keeps a blocked connection until its alarm is over, whatever the client does.
"""

Answer = TypeVar("Answer")


def broadcast_to_workers(
    url: str, settings: Broker, hold: Callable[[Any, BrokerBlocked], None] = lambda _client, _alarm: None
) -> None:
    """Ask all workers for a heartbeat and, with `broker.enable_events`, to send task events.

    Uses a connection of its own, so that missing rights do not affect the receipt of events.

    :param hold: called with the connection if the broker blocks it, before the connection is closed.
    :raises BrokerUnavailable: if the workers cannot be reached; the monitor works without this broadcast.
    :raises BrokerBlocked: if the broker accepts no messages, because of an alarm.
    """
    with remote_control(url, settings) as (client, control):
        try:
            control.heartbeat(connection=client)
            if settings.enable_events:
                control.enable_events(connection=client)
            # A refusal or an alarm arrives after the publishing, and before the answer to this call.
            client.default_channel.basic_qos(0, 1, False)
        except BrokerBlocked as alarm:
            hold(client, alarm)
            raise


def any_worker_answers(url: str, settings: Broker) -> bool:
    """Whether a worker answers within a few attempts: if so, a broadcast reaches somebody.

    :raises BrokerUnavailable: if the workers cannot be asked.
    """
    with remote_control(url, settings) as (client, control):
        return any(control.ping(timeout=ANSWER_TIMEOUT, connection=client) for _ in range(ATTEMPTS))


def silence_of(settings: Broker, attempts: int = 1) -> str:
    """The possible reasons why no worker answered, as a text."""
    return (
        f"no worker answered within {attempts * ANSWER_TIMEOUT:g} s through {settings.control_exchange}.pidbox: "
        "none is running, all are busy, or broker.control_exchange is not their control_exchange"
    )


class Reports(Protocol):
    """Receives the results of the broadcasts. Called in their thread."""

    def failed(self, reason: str) -> None:
        """The workers could not be asked."""

    def unheard(self, reason: str) -> None:
        """No worker answers any longer, for one of the possible reasons given."""

    def alarm(self, reason: str) -> None:
        """The broker accepts no messages."""

    def alarm_over(self, seconds: float) -> None:
        """The broker accepts messages again, after this many seconds."""


class WorkerBroadcast:
    """Sends the broadcasts in a thread: a slow broker must not cost the caller its lease.

    A broker with an alarm notifies only connections that publish, so the alarm is noticed here. The blocked connection
    is held until the alarm is over.
    """

    def __init__(self, threads: Threads, settings: Broker, clock: Clock, reports: Reports) -> None:
        self._thread = threads.calls("broadcast")
        self._settings = settings
        self._clock = clock
        self._reports = reports
        self._is_heard = True
        """Whether a worker answered last time: silence is reported once, not after each reconnection."""
        self._url: str | None = None
        """The broker's URL of the latest connection, until the broadcast to its workers begins."""
        self._latest_url: str | None = None
        self._asked: Future[None] | None = None
        self._is_wanted = False
        self._problem: str | None = None
        """Why the latest request failed. Reported once for each connection, however often workers are asked again."""
        self._alarm: str | None = None
        self._alarm_since = 0.0
        self.asked_at: float | None = None
        """When the latest request began that no alarm delayed, by the monotonic clock. A request that failed for
        another reason counts, too: nothing is known about an alarm then.
        """

    @property
    def is_blocked(self) -> bool:
        """Whether the broker accepts no messages, as far as is known."""
        return self._alarm is not None

    def send(self, url: str) -> Future[None]:
        """Broadcast to the workers of a broker. While a broadcast is under way, only the latest further call counts."""
        self._url = self._latest_url = url
        return self._submit(self._broadcast)

    def ask_again(self) -> None:
        """Request a heartbeat from the same workers once more, unless a request is under way."""
        if self._latest_url is not None and (self._asked is None or self._asked.done()):
            self._submit(self._request_again)

    def retry(self) -> None:
        """Repeat a broadcast for which no thread could be started, and send a request that other threads want."""
        if self._url is not None and self._asked is not None and self._asked.done():
            self.send(self._url)
        if self._is_wanted:
            self._is_wanted = False
            self.ask_again()

    def unless_blocked(self, ask: Callable[[], Answer]) -> Answer:
        """Ask the workers or the broker something else, in any thread. Each question to a broker with an alarm leaves a
        connection open at the broker until the alarm is over, so nothing is asked then.

        :raises BrokerBlocked: if there is an alarm.
        """
        if self._alarm is not None:
            raise BrokerBlocked(self._alarm)
        try:
            return ask()
        except BrokerBlocked:
            self._is_wanted = True
            raise

    def _submit(self, call: Callable[[], None]) -> Future[None]:
        asked = self._asked = self._thread.submit(call)
        if asked.done() and asked.exception() is not None:
            self.asked_at = self._clock.monotonic()
        return asked

    def _broadcast(self) -> None:
        url, self._url = self._url, None
        self._problem = None
        if url is None or not self._request(url):
            return
        try:
            was_heard, self._is_heard = self._is_heard, any_worker_answers(url, self._settings)
        except BrokerBlocked:
            self._is_wanted = True  # the request that follows reports the alarm and waits
            return
        except HaMonitorError as error:
            self._reports.failed(str(error))
            return
        if was_heard and not self._is_heard:
            self._reports.unheard(silence_of(self._settings, ATTEMPTS))

    def _request_again(self) -> None:
        if self._url is None and self._latest_url is not None:
            self._request(self._latest_url)

    def _request(self, url: str) -> bool:
        """Request heartbeats, and wait while the broker is blocked. Returns whether they were requested."""
        began = self._clock.monotonic()
        try:
            while self._is_held_up(url):
                if self._url is not None:
                    return False  # a new connection has a request of its own
                began = self._clock.monotonic()
            problem = None
        except HaMonitorError as error:
            problem = str(error)
        except Exception as error:  # unexpected, from a library: the next connection tries again
            problem = class_and_reason(error)
        self.asked_at = began
        self._end_alarm()
        if problem is not None and problem != self._problem:
            self._reports.failed(problem)
        self._problem = problem
        return problem is None

    def _is_held_up(self, url: str) -> bool:
        """Request heartbeats. Returns True if the broker was blocked; the alarm may be over by then."""
        try:
            broadcast_to_workers(url, self._settings, self._hold)
        except BrokerBlocked:
            return True
        return False

    def _hold(self, client: Any, alarm: BrokerBlocked) -> None:
        since = self._clock.monotonic()
        if self._alarm is None:
            self._alarm, self._alarm_since = str(alarm), since
            self._reports.alarm(self._alarm)
        wait_while_blocked(client, lambda: self._url is not None or self._clock.monotonic() - since >= MAX_HOLD)

    def _end_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm = None
            self._reports.alarm_over(self._clock.monotonic() - self._alarm_since)
