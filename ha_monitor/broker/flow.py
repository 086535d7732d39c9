"""How much a broker may have on its way to a consumer."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.broker.buffered import MOST_AHEAD


class Received(Protocol):
    """What is known of a connection."""

    @property
    def bytes_read(self) -> int:
        """From the socket, so far."""

    @property
    def last_tag(self) -> int:
        """Delivery tag of the last message that is read and not taken; 0 if there is none."""

    @property
    def is_receiving(self) -> bool:
        """Whether a part of a message has arrived, and the rest has not."""

    def bytes_kept(self) -> int:
        """Bytes that were read and are not taken."""

    def messages_kept(self) -> int:
        """Messages that were read whole and are not taken."""


class Flow:
    """Judges whether a question may be asked on a connection that also delivers.

    The answer comes behind all messages that the broker has sent by then, and they are read with it, whoever takes
    them. So their size is estimated: as many as may be delivered without an acknowledgement, each as large as those of
    the last second, or as those that are kept, whichever is more. How long nothing has come says nothing while messages
    are kept: a broker on a busy machine pauses for seconds. Where none is kept and none comes, there is none.
    """

    def __init__(self, prefetch: int) -> None:
        """:param prefetch: messages that may be delivered without an acknowledgement."""
        self._prefetch = prefetch
        self.acknowledged = 0
        """The last delivery tag that was acknowledged."""
        self._tag = self._bytes = 0

    def allows_question(self, received: Received, has_all: bool, taken: int) -> bool:
        """Whether the answer brings no more than may be kept; to be asked about once a second.

        :param has_all: whether all that has arrived was read.
        :param taken: the last delivery tag that was taken.
        """
        tag = max(taken, received.last_tag)
        messages, size = tag - self._tag, received.bytes_read - self._bytes
        self._tag, self._bytes = tag, received.bytes_read
        if not has_all or (received.is_receiving and not messages):
            return False
        to_come = self._prefetch - (tag - self.acknowledged)
        if to_come <= 0:
            return True
        kept = received.bytes_kept()
        average = max(size / messages if messages else 0, kept / max(1, received.messages_kept()))
        return kept + to_come * average <= MOST_AHEAD
