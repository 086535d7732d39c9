"""Where lines go: to a file descriptor here, to journald in `journal.py`."""

from __future__ import annotations

import os
import select
import threading
from typing import NamedTuple, Protocol

from ha_monitor.errors import OutputLost

CHUNK = 64 * 1024
"""Bytes per write: the capacity of a pipe."""


class Line(NamedTuple):
    """A finished line, and the fields that a log system may index."""

    text: bytes
    level: str
    event: str
    task_id: str | None = None
    task_name: str | None = None
    queue: str | None = None
    worker: str | None = None
    root_id: str | None = None
    error_group: str | None = None


class Output(Protocol):
    """A destination for lines."""

    def write(self, lines: list[Line]) -> None:
        """Write the lines, in order; returns when the kernel or journald has them. Blocks if the reader is slow:
        nothing is dropped.

        :raises OutputLost: if nobody reads them any more.
        """


class StreamOutput:
    """Lines to a file, a pipe or a terminal, completely. Blocks if the reader is slow: nothing is dropped.

    Several threads may write: the lines of one call stay together.
    """

    def __init__(self, file_descriptor: int) -> None:
        self._fd = file_descriptor
        self._lock = threading.Lock()

    def write(self, lines: list[Line]) -> None:
        """Write each line and a newline; returns when the kernel has them.

        :raises OutputLost: if the reader is gone, the disk is full, or the descriptor is closed.
        """
        if lines:
            text = b"\n".join([*(line.text for line in lines), b""])
            # A pipe splits what exceeds its capacity, and other threads could write in between.
            with self._lock:
                try:
                    self._write_all(text)
                except OSError as error:
                    raise OutputLost(f"standard output no longer accepts lines: {error.strerror}") from error

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view[:CHUNK]) :]
            except BlockingIOError:
                # The parent process may have left standard output non-blocking.
                select.select([], [self._fd], [])
