"""A queue of bytes between the thread that receives them and the thread that takes them."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """Some bytes of a stream, as received."""

    replies: Any
    """The `hiredis.Reader` of that stream, which parses the replies in the bytes."""
    data: bytes
    """Empty if there is nothing new: the piece only makes the taker look at the stream again."""


class Inbox:
    """Pieces in the order in which they were received, of one stream after the other. The thread that puts them in must
    check `has_room`: nothing is dropped here.
    """

    def __init__(self, most: int) -> None:
        """:param most: bytes beyond which there is no room; the last piece may exceed this."""
        self._most = most
        self._size = 0
        self._pieces: deque[Piece] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._pieces)

    def put(self, piece: Piece) -> None:
        """Add a piece. Does not wait."""
        with self._changed:
            self._pieces.append(piece)
            self._size += len(piece.data)
            self._changed.notify_all()

    def take(self, timeout: float) -> Piece | None:
        """The oldest piece; waits up to `timeout` seconds for one. None if there is none."""
        with self._changed:
            if not self._pieces and not (timeout > 0 and self._changed.wait_for(lambda: self._pieces, timeout)):
                return None
            piece = self._pieces.popleft()
            if self._size >= self._most:
                self._changed.notify_all()
            self._size -= len(piece.data)
            return piece

    def has_room(self, timeout: float = 0.0) -> bool:
        """Whether more may be put in; waits up to `timeout` seconds for room."""
        with self._changed:
            return self._size < self._most or (
                timeout > 0 and self._changed.wait_for(lambda: self._size < self._most, timeout)
            )
