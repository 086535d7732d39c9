"""Writes whole lines to a file descriptor."""

from __future__ import annotations

import os
import select
import threading

CHUNK = 64 * 1024
"""Bytes a write: what a pipe takes at once."""


class LineWriter:
    """Writes lines, in order and completely. A reader that is slow makes it wait: nothing is dropped.

    Several threads may write: the lines of one call stay together.
    """

    def __init__(self, file_descriptor: int) -> None:
        self._fd = file_descriptor
        self._lock = threading.Lock()

    def write(self, lines: list[bytes]) -> None:
        """Write each line and a newline; returns when the kernel has them.

        :raises BrokenPipeError: if nobody reads any more.
        """
        if lines:
            lines.append(b"")
            text = b"\n".join(lines)
            lines.pop()
            # A pipe takes more than its capacity in pieces, between which other threads would write.
            with self._lock:
                self._write_all(text)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view[:CHUNK]) :]
            except BlockingIOError:
                # Whoever started the process may have left its standard output non-blocking.
                select.select([], [self._fd], [])
