"""Estimates how much a broker may still deliver to a consumer before it answers a question."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.broker.buffered import MAX_READ_AHEAD


class Received(Protocol):
    """What is known about a connection."""

    @property
    def bytes_read(self) -> int:
        """Bytes read from the socket so far."""

    @property
    def last_tag(self) -> int:
        """Delivery tag of the last message that was read and not taken yet; 0 if there is none."""

    @property
    def is_receiving(self) -> bool:
        """Whether a message has arrived only in part."""

    def bytes_kept(self) -> int:
        """Bytes that were read and not taken yet."""

    def messages_kept(self) -> int:
        """Messages that were read completely and not taken yet."""


class Flow:
    """Judges whether a question may be asked on a connection that also delivers messages.

    The answer comes after all messages that the broker has sent by then, so these must be read and kept first. Their
    size is estimated: as many messages as the prefetch still allows, each as large as the average of the last second or
    of the kept messages, whichever is larger. While messages are kept, a pause in the deliveries proves nothing: a
    broker on a busy machine pauses for seconds. If none is kept and none arrives, none is expected.
    """

    def __init__(self, prefetch: int) -> None:
        """:param prefetch: messages that may be delivered without an acknowledgement."""
        self._prefetch = prefetch
        self.acknowledged = 0
        """The last delivery tag that was acknowledged."""
        self._tag = self._bytes = 0

    def allows_question(self, received: Received, has_all: bool, taken: int) -> bool:
        """Whether what arrives before the answer fits into what may be kept. Call it about once a second.

        :param has_all: whether everything that has arrived was read.
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
        return kept + to_come * average <= MAX_READ_AHEAD
