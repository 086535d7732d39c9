"""Reads the tail of the fleet from Redis: see `tail.py`. `lua/outbox.lua` writes it.

`tail-wanted` exists while somebody watches, and counts what the instances add to the stream. The count starts from a
number derived from the time, which reveals that the key was gone meanwhile: then something may not have been added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.keys import Keys
from ha_monitor.store.outbox import read_entry
from ha_monitor.store.packing import json_object
from ha_monitor.store.tail import RENEWED_EVERY, WANTED_FOR, GapDetector, TailEvent, TailGap

PIECES_AT_ONCE = 16
"""Entries of the stream, of at most 128 kB each."""
MAX_BLOCK = 1.0
"""Seconds for which Redis is asked to wait for new entries."""
_CURSOR = re.compile(r"([0-9]{1,15}-[0-9]{1,19})\.([0-9]{1,18}|-)")
START_INTERVAL, START_COUNT = 2**31, 2**21
"""Room for announcements between one start of the count and the next, and how many starts are told apart: the count
must be a number that Lua holds exactly and that `lua/repair.lua` accepts. Each millisecond has its own start.
"""
MAX_KNOWN_INSTANCES = 1000
"""Instances whose names are remembered."""
_entries_in = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class RedisTail:
    """See `tail.Tail`."""

    def __init__(self, connection: StoreConnection, keys: Keys, clock: Clock, timeout: float) -> None:
        """:param timeout: seconds after which a reply of Redis is late."""
        self._connection = connection
        self._call = connection.call
        self._keys = keys
        self._clock = clock
        self._block = min(MAX_BLOCK, timeout / 2)
        self._renewed_at = float("-inf")
        self._cursor = b"0-0"
        self._gap_detector = GapDetector()
        self._wanted: int | None = None
        """The count of announcements when `tail-wanted` was renewed; None once that was checked."""
        self._found: list[TailEvent | TailGap] = []
        """What was read but not returned yet, because of an error."""
        self._who: dict[int, Mapping[str, Any]] = {}
        self._is_resumed = False

    def begin(self) -> None:
        self._renew()
        self._gap_detector.last = self._wanted  # everything counted so far is from before
        last = self._call("XREVRANGE", self._keys.tail, "+", "-", "COUNT", 1)
        for place, raw in last:
            self._cursor, self._gap_detector.at = place, _time_of(place)
            upto = _number(_fields(raw).get(b"n"))
            # An entry from before `tail-wanted` expired was counted from another start.
            if (
                upto is not None
                and self._wanted is not None
                and upto // START_INTERVAL == self._wanted // START_INTERVAL
            ):
                self._gap_detector.last = upto

    def resume(self, cursor: str) -> None:
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise ValueError("expected the cursor from the end of the previous answer")
        place, last = found.groups()
        self._cursor, self._is_resumed = place.encode(), True
        self._gap_detector.at, self._gap_detector.last = _time_of(self._cursor), None if last == "-" else int(last)
        self._renew()
        before, wanted = self._gap_detector.last, self._wanted
        if before is None or wanted is None or before // START_INTERVAL == wanted // START_INTERVAL:
            return
        # Nobody has watched for a while: what was announced meanwhile is not in the stream.
        self._found.append(TailGap(self._gap_detector.at, self._now(), None))
        self._gap_detector.last = wanted if self._is_at_end() else None
        self._wanted = None

    @property
    def cursor(self) -> str:
        last = self._gap_detector.last
        return f"{self._cursor.decode()}.{'-' if last is None else last}"

    def read(self, within: float) -> list[TailEvent | TailGap]:
        self._connection.verify_primary()
        if self._clock.monotonic() - self._renewed_at >= RENEWED_EVERY:
            self._renew()
        block = max(1, int(min(within, self._block) * 1000))
        wanted = ("COUNT", PIECES_AT_ONCE, "BLOCK", block, "STREAMS", self._keys.tail, self._cursor)
        for _, pieces in self._call("XREAD", *wanted) or ():
            for place, raw in pieces:
                self._read_piece(place, _fields(raw))
        self._look_for_lost()
        found, self._found = self._found, []
        return found

    def _renew(self) -> None:
        """Have the instances continue, or begin, to fill the stream."""
        if not self._call("EXPIRE", self._keys.tail_wanted, WANTED_FOR):
            start = int(self._now() * 1000) % START_COUNT * START_INTERVAL
            self._call("SET", self._keys.tail_wanted, start, "EX", WANTED_FOR, "NX")
        self._wanted = _number(self._call("GET", self._keys.tail_wanted))
        self._renewed_at = self._clock.monotonic()

    def _now(self) -> float:
        seconds, microseconds = self._call("TIME")
        return int(seconds) + int(microseconds) / 1e6

    def _is_at_end(self) -> bool:
        """Whether nothing follows the cursor."""
        return not self._call("XREAD", "COUNT", 1, "STREAMS", self._keys.tail, self._cursor)

    def _look_for_lost(self) -> None:
        """If something must be there and nothing comes, the stream was created anew with earlier ids, as after a
        fail-over to a Redis whose clock is behind: it is read from its beginning.
        """
        last = self._gap_detector.last
        if not self._found and self._wanted is not None and last is not None and self._wanted > last:
            self._cursor = b"0-0"
        self._wanted = None

    def _read_piece(self, place: bytes, fields: Mapping[bytes, bytes]) -> None:
        at, upto = _time_of(place), _number(fields.get(b"n"))
        try:
            entries = [read_entry(bytes(one)) for one in _entries_in(fields.get(b"e", b""))]
        except ValueError:
            entries = []
        if upto is None or not entries:
            self._cursor = place
            return  # foreign
        who = self._instance(_number(fields.get(b"by")))
        self._cursor = place
        new, last = self._gap_detector.unseen(entries), self._gap_detector.last
        if (
            last is not None
            and upto <= last
            and (not new or (self._is_resumed and upto // START_INTERVAL == last // START_INTERVAL))
        ):
            return  # it was read before, by this reader or by the one that it continues
        if (gap := self._gap_detector.gap(upto, len(entries), at)) is not None:
            self._found.append(gap)
        self._found += [TailEvent(entry, at, who) for entry in new]

    def _instance(self, token: int | None) -> Mapping[str, Any]:
        if token is None:
            return {}
        if token not in self._who:
            raw = self._call("HGET", self._keys.instance(token), "who")
            if len(self._who) >= MAX_KNOWN_INSTANCES:
                self._who.clear()
            self._who[token] = json_object(raw or b"{}")
        return self._who[token]


def _fields(raw: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(raw[::2], raw[1::2], strict=False))


def _number(raw: bytes | None) -> int | None:
    """A whole number that the program writes; None for anything else."""
    return int(raw) if raw is not None and raw.isdigit() and len(raw) <= 18 else None


def _time_of(place: bytes) -> float:
    """When an entry was added to the stream, in seconds since the epoch."""
    return int(place.partition(b"-")[0]) / 1000
