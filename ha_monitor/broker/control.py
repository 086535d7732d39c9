"""Broadcasts to the workers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from ha_monitor.broker.asking import asking
from ha_monitor.config.schema import Broker
from ha_monitor.errors import HaMonitorError, reason_of
from ha_monitor.threads import CallThread, Threads

ANSWER_TIMEOUT = 2.0
"""Seconds to wait for the workers' answers."""
ATTEMPTS = 5
"""How often workers are asked before their silence is told: they may be starting, or busy."""


def broadcast_to_workers(url: str, settings: Broker) -> None:
    """Ask all workers for a heartbeat, and, with `broker.enable_events`, to send task events.

    Uses its own connection, so that missing rights do not affect the events.

    :raises BrokerUnavailable: if they cannot be reached; the monitor works without it.
    """
    with asking(url, settings) as (client, control):
        control.heartbeat(connection=client)
        if settings.enable_events:
            control.enable_events(connection=client)
        # A refusal arrives after the publishing, and before the answer to this call.
        client.default_channel.basic_qos(0, 1, False)


def any_worker_answers(url: str, settings: Broker) -> bool:
    """Whether a worker answers within a few attempts, so that a broadcast reaches somebody.

    :raises BrokerUnavailable: if they cannot be asked.
    """
    with asking(url, settings) as (client, control):
        return any(control.ping(timeout=ANSWER_TIMEOUT, connection=client) for _ in range(ATTEMPTS))


def silence_of(settings: Broker, attempts: int = 1) -> str:
    """What it may mean that no worker answered."""
    return (
        f"no worker answered within {attempts * ANSWER_TIMEOUT:g} s through {settings.control_exchange}.pidbox: "
        "none is running, all are busy, or broker.control_exchange is not their control_exchange"
    )


class WorkerBroadcast:
    """Sends the broadcasts in a thread: a slow broker must not cost the caller its lease."""

    def __init__(
        self,
        threads: Threads,
        settings: Broker,
        failed: Callable[[str], None],
        unheard: Callable[[str], None],
    ) -> None:
        """
        :param failed: called in the thread with the reason of a failure.
        :param unheard: called in the thread with what it may mean when no worker answers any more.
        """
        self._thread = CallThread(threads, "broadcast")
        self._settings = settings
        self._failed = failed
        self._unheard = unheard
        self._is_heard = True
        """Whether a worker answered last; a reconnection to a broker without workers is no news."""
        self._url: str | None = None
        """Of the latest connection, until the broadcast to its workers begins."""
        self._asked: Future[None] | None = None

    def send(self, url: str) -> Future[None]:
        """Broadcast to the workers of a broker; of several calls meanwhile only the latest counts."""
        self._url = url
        self._asked = self._thread.submit(self._broadcast)
        return self._asked

    def retry(self) -> None:
        """Repeat a broadcast that failed because there was no thread."""
        if self._url is not None and self._asked is not None and self._asked.done():
            self.send(self._url)

    def _broadcast(self) -> None:
        url, self._url = self._url, None
        if url is None:
            return
        try:
            broadcast_to_workers(url, self._settings)
            was_heard, self._is_heard = self._is_heard, any_worker_answers(url, self._settings)
            if was_heard and not self._is_heard:
                self._unheard(silence_of(self._settings, ATTEMPTS))
        except HaMonitorError as error:
            self._failed(str(error))
        except Exception as error:  # unexpected, from a library: the next connection tries again
            self._failed(f"{type(error).__name__}: {reason_of(error)}")
