"""Where lines go."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ha_monitor.outputs.writer import LineWriter


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

        :raises OutputLost: if nobody takes them any more.
        """


class StreamOutput:
    """Lines to a file, a pipe or a terminal."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def write(self, lines: list[Line]) -> None:
        self._writer.write([line.text for line in lines])
