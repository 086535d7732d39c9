"""Writes whole lines to a file descriptor."""

from __future__ import annotations

import os
import select

CHUNK = 64 * 1024
"""Bytes a write: what a pipe takes at once."""


class LineWriter:
    """Writes lines, in order and completely. A reader that is slow makes it wait: nothing is dropped."""

    def __init__(self, file_descriptor: int) -> None:
        self._fd = file_descriptor

    def write(self, lines: list[bytes]) -> None:
        """Write each line and a newline; returns when the kernel has them.

        :raises BrokenPipeError: if nobody reads any more.
        """
        if lines:
            lines.append(b"")
            self._write_all(b"\n".join(lines))
            lines.pop()

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view[:CHUNK]) :]
            except BlockingIOError:
                # Whoever started the process may have left its standard output non-blocking.
                select.select([], [self._fd], [])
