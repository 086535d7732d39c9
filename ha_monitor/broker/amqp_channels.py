"""Channels for questions to RabbitMQ, whose answers may come after many messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from amqp import Channel, spec


class QueueChannel(Channel):  # type: ignore[misc]
    """A channel that asks for the length of a queue. The answer comes after all messages delivered before it."""

    unanswered = 0
    """Questions whose answers have not come. Until then, another question would get the answer to an earlier one."""

    def queue_length(self, queue: str) -> Any:
        """The answer to a passive declaration of the queue. Raises what py-amqp raises, and `AnswerDelayed`."""
        self.unanswered += 1
        return self.queue_declare(queue, passive=True)

    def late_answer(self) -> None:
        """Wait for the next answer to an earlier question. Raises as `queue_length`."""
        self.wait(spec.Queue.DeclareOk)

    def dispatch_method(self, method_sig: Any, payload: Any, content: Any) -> None:
        if self.is_closing and method_sig not in self._ALLOWED_METHODS_WHEN_CLOSING:
            return  # the answer to a question that is given up; py-amqp would warn of it
        if method_sig == spec.Queue.DeclareOk and self.unanswered:
            self.unanswered -= 1
        super().dispatch_method(method_sig, payload, content)


@contextlib.contextmanager
def brief_channel(connection: Any) -> Iterator[Any]:
    """A channel that is closed at the end, also if the broker has not answered: nothing waits for that.

    :param connection: a connection of py-amqp.
    """
    channel = connection.Channel(connection)
    try:
        channel.open()
        yield channel
    except BaseException:
        with contextlib.suppress(Exception):  # the connection may be broken
            _close(channel)
        raise
    _close(channel)


def _close(channel: Any) -> None:
    if channel.connection is not None:
        channel.is_closing = True  # what else arrives on it is ignored
        channel.send_method(spec.Channel.Close, "BsBB", (0, "", 0, 0))
