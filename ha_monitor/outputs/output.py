"""Where lines go."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ha_monitor.outputs.writer import LineWriter


class Line(NamedTuple):
    """A finished line, and what of it a log system may index."""

    text: bytes
    level: str
    event: str
    task_id: str | None = None
    task_name: str | None = None


class Output(Protocol):
    """Something that takes lines."""

    def write(self, lines: list[Line]) -> None:
        """Hand over the lines, in order; returns when they are out of this process's hands. A slow reader makes
        it wait: nothing is dropped.

        :raises BrokenPipeError: if nobody reads any more.
        """


class StreamOutput:
    """Lines to a file, a pipe or a terminal."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def write(self, lines: list[Line]) -> None:
        self._writer.write([line.text for line in lines])
