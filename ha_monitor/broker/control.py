"""What the monitor asks of the workers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from ha_monitor.broker.asking import asking
from ha_monitor.config.schema import Broker
from ha_monitor.errors import HaMonitorError, reason_of
from ha_monitor.threads import CallThread, Threads


def broadcast_to_workers(url: str, settings: Broker) -> None:
    """Ask all workers for a heartbeat, and to send task events where `broker.enable_events` says so.

    A connection of its own, so that a broker that forbids it does not cost the events.

    :raises BrokerUnavailable: if they cannot be asked: the monitor works without.
    """
    with asking(url, settings) as (client, control):
        control.heartbeat(connection=client)
        if settings.enable_events:
            control.enable_events(connection=client)
        # A refusal comes behind what was published, and before the answer to a question.
        client.default_channel.basic_qos(0, 1, False)


class WorkerBroadcast:
    """Greets the workers in a thread: a broker that is slow to answer must not cost the caller its lease."""

    def __init__(self, threads: Threads, settings: Broker, failed: Callable[[str], None]) -> None:
        """:param failed: is told in the thread what went wrong, if something did."""
        self._thread = CallThread(threads, "broadcast")
        self._settings = settings
        self._failed = failed
        self._url: str | None = None
        """Of the latest connection, while its workers are still to be greeted."""
        self._asked: Future[None] | None = None

    def send(self, url: str) -> Future[None]:
        """Greet the workers of a broker; of several it was asked to greet meanwhile only those of the latest."""
        self._url = url
        self._asked = self._thread.submit(self._broadcast)
        return self._asked

    def retry(self) -> None:
        """Greet those who were not greeted because there was no thread."""
        if self._url is not None and self._asked is not None and self._asked.done():
            self.send(self._url)

    def _broadcast(self) -> None:
        url, self._url = self._url, None
        if url is None:
            return
        try:
            broadcast_to_workers(url, self._settings)
        except HaMonitorError as error:
            self._failed(str(error))
        except Exception as error:  # of a library, unforeseen: the next connection tries again
            self._failed(f"{type(error).__name__}: {reason_of(error)}")
