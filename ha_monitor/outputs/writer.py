"""Writes whole lines to a file descriptor."""

from __future__ import annotations

import os
import select
import threading

from ha_monitor.errors import OutputLost

CHUNK = 64 * 1024
"""Bytes per write: the capacity of a pipe."""


class LineWriter:
    """Writes lines, in order and completely. Blocks if the reader is slow: nothing is dropped.

    Several threads may write: the lines of one call stay together.
    """

    def __init__(self, file_descriptor: int) -> None:
        self._fd = file_descriptor
        self._lock = threading.Lock()

    def write(self, lines: list[bytes]) -> None:
        """Write each line and a newline; returns when the kernel has them.

        :raises OutputLost: if the reader is gone, the disk is full, or the descriptor is closed.
        """
        if lines:
            lines.append(b"")
            text = b"\n".join(lines)
            lines.pop()
            # A pipe splits what exceeds its capacity, and other threads could write in between.
            with self._lock:
                try:
                    self._write_all(text)
                except OSError as error:
                    raise OutputLost(f"standard output takes no more lines: {error.strerror}") from error

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view[:CHUNK]) :]
            except BlockingIOError:
                # The parent process may have left standard output non-blocking.
                select.select([], [self._fd], [])
