"""The tail of the fleet: see `tail.Tail`."""

from __future__ import annotations

from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.tail import WANTED_FOR, GapDetector, TailEvent, TailGap


class MemoryTail:
    """Nothing in it is ever trimmed; what was announced without a request is missing."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._gap_detector = GapDetector()
        self._read = 0

    def begin(self) -> None:
        self._renew()
        self._read = len(self._server.tail)

    def resume(self, cursor: str) -> None:
        place, _, known = cursor.partition(".")
        if not (place.isdigit() and known == "-"):
            raise ValueError("expected the cursor from the end of the previous answer")
        self._read = int(place)

    @property
    def cursor(self) -> str:
        return f"{self._read}.-"

    def read(self, within: float) -> list[TailEvent | TailGap]:  # noqa: ARG002 - nothing comes while it waits
        self._server.trouble("before read of the tail")
        until, now = self._server.tail_wanted_until, self._server.clock.time()
        self._renew()
        new = self._server.tail[self._read :]
        self._read += len(new)
        left_out: list[TailEvent | TailGap] = [TailGap(until - WANTED_FOR, now, None)] if until <= now else []
        entries = {id(one) for one in self._gap_detector.unseen(event.entry for event in new)}
        return [*left_out, *(event for event in new if id(event.entry) in entries)]

    def _renew(self) -> None:
        self._server.tail_wanted_until = self._server.clock.time() + WANTED_FOR
