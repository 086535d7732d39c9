"""How much a broker may have on its way to a consumer."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.broker.buffered import MOST_AHEAD

QUIET = 3
"""Seconds without a message after which none is on its way, while others are kept."""


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


class Flow:
    """Judges whether a question may be asked on a connection that also delivers.

    The answer comes behind all messages that the broker has sent by then, and they are read with it, whoever takes
    them. So their size is estimated: as many as may be delivered without an acknowledgement, each as large as those of
    the last second. Only what flows can be on its way: after a second in which nothing came there is nothing. While
    messages are kept, somebody is slow, and the broker may be slow as well: then it takes longer, and nothing is asked
    once half of what may be kept is there.
    """

    def __init__(self, prefetch: int) -> None:
        """:param prefetch: messages that may be delivered without an acknowledgement."""
        self._prefetch = prefetch
        self.acknowledged = 0
        """The last delivery tag that was acknowledged."""
        self._tag = self._bytes = self._quiet = 0

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
        if messages:
            self._quiet = 0
            return kept + to_come * size / messages <= MOST_AHEAD
        self._quiet += 1
        return not kept or (self._quiet >= QUIET and kept <= MOST_AHEAD // 2)
