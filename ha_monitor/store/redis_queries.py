"""Asks Redis: see `queries.py`. Reads only, and no more at once than Redis can answer in some milliseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, compress, islice, pairwise
from math import isfinite
from struct import Struct
from typing import Any

import msgspec

from ha_monitor.events.catalogue import State
from ha_monitor.events.types import ENDS
from ha_monitor.store.briefs import Briefs
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.error_groups import ErrorGroup, GroupFacts, group_from
from ha_monitor.store.kept import brief_task, read_kept
from ha_monitor.store.keys import Keys
from ha_monitor.store.name_statistics import KEPT as RUNS_KEPT
from ha_monitor.store.name_statistics import Cell, NameStatistic, statistic_from
from ha_monitor.store.packing import json_object
from ha_monitor.store.queries import MAX_NAMES, MAX_NEWEST, Ended, Gap, KeptTask, spans_of
from ha_monitor.store.queue_flow import KEPT, KnownQueue, QueueFlow, QueueWait, flow_from
from ha_monitor.store.record import Facts
from ha_monitor.store.redis_open import RedisOpenQueries
from ha_monitor.store.redis_workers import RedisWorkerQueries

RECORDS_AT_ONCE = 100
"""Task records that one call reads: most have half a kilobyte, the largest a hundred times that; and groups of errors,
of five kilobytes.
"""
CALLS_IN_FLIGHT = 4
"""Calls for records that are in flight, at most: Redis may answer them one after the other."""
ENTRIES_AT_ONCE = 1000
"""Entries of an index that one call reads."""
MAX_GROUPS = 2000
NAMES_AT_ONCE = 100
"""Names whose ids, or hours of names whose statistics, are requested before the first answer is read."""
ORPHANED = {11: State.SENT, 12: State.RECEIVED, 13: State.STARTED}
"""Codes for orphaned tasks in `ended_badly`, as `lua/index/ended_badly.lua` writes them."""
_MINUTE = Struct(">dddd")
"""What came into a queue and left it, as `lua/index/flow.lua` stores it: a `queue_flow.Cell`."""
_LATEST = 4e9
"""Seconds since the epoch."""
_group_in = msgspec.msgpack.Decoder(tuple[GroupFacts, str]).decode
_cell_in = msgspec.msgpack.Decoder(dict[int, int]).decode


class RedisQueries(RedisOpenQueries, RedisWorkerQueries):
    """See `queries.Queries`."""

    def __init__(self, connection: StoreConnection, keys: Keys) -> None:
        super().__init__(connection, keys)
        self._briefs = Briefs(connection, keys)

    def tasks(self, ids: Sequence[str], texts: frozenset[str] = frozenset()) -> list[KeptTask | None]:
        # A record contains its texts unchanged, so most records without them need not be unpacked.
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        records = self._records(ids)
        missing = [task_id for task_id, raw in zip(ids, records, strict=True) if raw is None]
        briefs: dict[str, Facts] = {}
        for first in range(0, len(missing), RECORDS_AT_ONCE):
            briefs |= self._briefs.facts(missing[first : first + RECORDS_AT_ONCE])
        found: list[KeptTask | None] = []
        for task_id, raw in zip(ids, records, strict=True):
            if raw is not None:
                is_meant = not parts or any(part in raw for part in parts)
                found.append(read_kept(task_id, raw) if is_meant else None)
            else:
                found.append(brief_task(task_id, briefs[task_id]) if task_id in briefs else None)
        return found

    def _records(self, ids: Sequence[str]) -> list[bytes | None]:
        """The raw records. A distant Redis gets the next requests before the last replies have come."""
        calls = [ids[first : first + RECORDS_AT_ONCE] for first in range(0, len(ids), RECORDS_AT_ONCE)]
        records: list[bytes | None] = []
        sent = 0
        for received in range(len(calls)):
            while sent < min(len(calls), received + CALLS_IN_FLIGHT):
                self._connection.send("MGET", *map(self._keys.task, calls[sent]))
                sent += 1
            records += self._connection.receive()
        return records

    def names(self) -> list[str]:
        return sorted(map(_text, self._call("ZRANGE", self._keys.names, 0, MAX_NAMES - 1)))

    def newest(self, name: str, count: int) -> list[str]:
        return list(dict.fromkeys(self.newest_of([name], count)[0]))

    def newest_of(self, names: Sequence[str], count: int, offset: int = 0) -> list[list[str]]:
        found: list[list[str]] = []
        last = min(offset + count, MAX_NEWEST) - 1
        if last < offset:
            return [[] for _ in names]
        asked = [("LRANGE", self._keys.newest(name), offset, last) for name in names]
        for ids in self._connection.ask_in_turn(asked, NAMES_AT_ONCE):
            found += [list(map(_text, of_name)) for of_name in ids]
        return found

    def ended_badly(self, since: float, until: float, count: int, offset: int = 0) -> list[Ended]:
        latest, earliest = f"({(_milliseconds(until) + 1) * 16}", _milliseconds(since) * 16
        found: list[Ended] = []
        while len(found) < count:
            most = min(ENTRIES_AT_ONCE, count - len(found))
            limit = ("WITHSCORES", "LIMIT", offset + len(found), most)
            some = self._call("ZREVRANGEBYSCORE", self._keys.ended_badly, latest, earliest, *limit)
            found += [_ended(some[index], int(some[index + 1])) for index in range(0, len(some), 2)]
            if len(some) < 2 * most:
                break
        return found

    def stuck(self, count: int) -> list[str]:
        return self._fields(self._keys.stuck, count)

    def orphaned(self, count: int) -> list[str]:
        return self._fields(self._keys.orphaned, count)

    def _fields(self, key: str, count: int) -> list[str]:
        found: dict[str, None] = {}
        cursor = b"0"
        while len(found) < count:
            cursor, some = self._call("HSCAN", key, cursor, "COUNT", ENTRIES_AT_ONCE)
            found |= dict.fromkeys(map(_text, some[::2]))
            if cursor == b"0":
                break
        return list(found)[:count]

    def waiting(self, queue: str, count: int) -> list[tuple[str, float]]:
        number = self._call("HGET", self._keys.wait_queues, queue)
        if number is None or not number.isdigit():
            return []
        found: list[tuple[str, float]] = []
        first, behind = range_of(int(number))
        while len(found) < count:
            most = min(ENTRIES_AT_ONCE, count - len(found))
            limit = ("WITHSCORES", "LIMIT", len(found), most)
            some = self._call("ZRANGEBYSCORE", self._keys.waits, first, f"({behind}", *limit)
            found += [(_text(some[at]), (int(some[at + 1]) - first) / 1000) for at in range(0, len(some), 2)]
            if len(some) < 2 * most:
                break
        return found

    def queues(self) -> list[str]:
        raw = self._call("HGETALL", self._keys.wait_queues)
        numbers = {_text(raw[at]): int(raw[at + 1]) for at in range(0, len(raw), 2) if raw[at + 1].isdigit()}
        for number in numbers.values():
            first, behind = range_of(number)
            self._connection.send("ZCOUNT", self._keys.waits, first, f"({behind}")
        counts = [self._connection.receive() for _ in numbers]
        return sorted(name for name, count in zip(numbers, counts, strict=True) if count)

    def known_queues(self) -> list[KnownQueue]:
        with_producers = set(map(_text, self._call("HKEYS", self._keys.wait_queues)))
        raw = self._call("ZRANGE", self._keys.queues, 0, -1, "WITHSCORES")
        consumed = {_text(raw[at]): float(raw[at + 1]) / 1000 for at in range(0, len(raw), 2)}
        return [
            KnownQueue(name, name in with_producers, consumed.get(name))
            for name in sorted({*with_producers, *consumed})
        ]

    def queue_waits(self, queues: Sequence[str]) -> list[QueueWait]:
        now = int(self.now() * 1000)
        numbers = self._call("HMGET", self._keys.wait_queues, *queues) if queues else []
        ranges = [range_of(int(number)) if number is not None and number.isdigit() else None for number in numbers]
        found: list[QueueWait] = []
        for start in range(0, len(ranges), NAMES_AT_ONCE):
            some = ranges[start : start + NAMES_AT_ONCE]
            for first, behind in filter(None, some):
                self._connection.send("ZCOUNT", self._keys.waits, first, first + now)
                self._connection.send("ZCOUNT", self._keys.waits, f"({first + now}", f"({behind}")
                limit = ("WITHSCORES", "LIMIT", 0, 1)
                self._connection.send("ZRANGEBYSCORE", self._keys.waits, first, first + now, *limit)
            for one in some:
                if one is None:
                    found.append(QueueWait(0, None, 0))
                    continue
                waiting, later, oldest = (self._connection.receive() for _ in range(3))
                found.append(QueueWait(waiting, (int(oldest[1]) - one[0]) / 1000 if oldest else None, later))
        return found

    def queue_flow(self, queues: Sequence[str], since: float, until: float) -> list[QueueFlow]:
        return [of_queue[0] for of_queue in self.queue_flow_by(queues, [since, until])]

    def queue_flow_by(self, queues: Sequence[str], bounds: Sequence[float]) -> list[list[QueueFlow]]:
        now = self.now()
        spans = spans_of(_within(bounds, now, KEPT))
        first, behind = spans[0][0], spans[-1][1]
        minutes: dict[int, list[int]] = {}
        for minute in range(first, behind):
            minutes.setdefault(minute // 60, []).append(minute % 60)
        found: list[list[QueueFlow]] = []
        for start in range(0, len(queues), NAMES_AT_ONCE):
            some = queues[start : start + NAMES_AT_ONCE]
            for name in some:
                for hour, fields in minutes.items():
                    self._connection.send("HMGET", self._keys.flow_of(name, hour), *fields)
            for _ in some:
                raw = [one for _ in minutes for one in self._connection.receive()]
                cells = [_MINUTE.unpack(one) if one is not None and len(one) == _MINUTE.size else () for one in raw]
                found.append(
                    [
                        flow_from(
                            cell for cell in cells[begin - first : end - first] if cell and all(map(isfinite, cell))
                        )
                        for begin, end in spans
                    ]
                )
        return found

    def children(self, root_id: str, count: int) -> list[str]:
        found: dict[str, None] = {}
        first = 0
        while len(found) < count:
            some = self._call("LRANGE", self._keys.children(root_id), first, first + ENTRIES_AT_ONCE - 1)
            found |= dict.fromkeys(map(_text, some))
            first += len(some)
            if len(some) < ENTRIES_AT_ONCE:
                break
        return list(found)[:count]

    def gaps(self, since: float, until: float) -> list[Gap]:
        # A gap that a repeated call has stored twice counts once.
        kept = set(self._call("LRANGE", self._keys.gaps, 0, -1))
        found = [gap for raw in kept if (gap := _gap(json_object(raw))) and gap.since <= until and gap.until >= since]
        return sorted(found, key=lambda gap: (gap.since, gap.until, gap.what))

    def error_ids(self, beginning: str = "") -> list[str]:
        found = map(_text, self._call("ZREVRANGE", self._keys.errors, 0, MAX_GROUPS - 1))
        return [group_id for group_id in found if group_id.startswith(beginning)]

    def error_groups(self, ids: Sequence[str]) -> list[ErrorGroup | None]:
        now, since = self.now(), self._call("GET", self._keys.errors_since)
        kept_since = int(since) / 1000 if since is not None and since.isdigit() else 0.0
        found: list[ErrorGroup | None] = []
        for first in range(0, len(ids), RECORDS_AT_ONCE):
            some = ids[first : first + RECORDS_AT_ONCE]
            kept = map(_group, self._call("MGET", *map(self._keys.error, some)))
            for group_id, one in zip(some, kept, strict=True):
                found.append(one and group_from(group_id, *one, now=now, since=kept_since))
        return found

    def statistics(self, names: Sequence[str], since: float, until: float) -> list[NameStatistic]:
        return [of_name[0] for of_name in self.statistics_by(names, [since, until])]

    def statistics_by(self, names: Sequence[str], bounds: Sequence[float]) -> list[list[NameStatistic]]:
        if bounds[-1] - bounds[0] > RUNS_KEPT:
            # Each hour is a call for each name, and most hours of a year have no data.
            bounds = _within(bounds, self.now(), RUNS_KEPT)
        # What lies before all that is kept is no time at all by then; its span would still be a whole minute.
        lengths = (until - since for since, until in pairwise(bounds))
        spans = [_fields(*span) if length > 0 else {} for span, length in zip(spans_of(bounds), lengths, strict=True)]
        hours = sorted({hour for span in spans for hour in span})
        asked = [("HGETALL", self._keys.statistics_of(name, hour)) for name in names for hour in hours]
        replies = chain.from_iterable(self._connection.ask_in_turn(asked, NAMES_AT_ONCE))
        known: dict[bytes, Cell | None] = {}
        found = []
        for name in names:
            raw = dict(zip(hours, islice(replies, len(hours)), strict=True))
            found.append([statistic_from(name, _cells(raw, span, known)) for span in spans])
        return found


def _ended(task_id: bytes, score: int) -> Ended:
    """An entry as `lua/index/ended_badly.lua` writes it."""
    at, code = divmod(score, 16)
    state = ORPHANED.get(code)
    if state is not None:
        return Ended(_text(task_id), at / 1000, state, orphaned=True)
    end = ENDS.get(code)
    return Ended(_text(task_id), at / 1000, State.UNKNOWN if end is None else end.state)


def _milliseconds(seconds: float) -> int:
    """A time as a score that Redis compares exactly."""
    return int(min(max(seconds, 0.0), _LATEST) * 1000)


def _gap(kept: dict[str, Any]) -> Gap | None:
    """An entry as `lua/losses.lua` writes it."""
    what, since, until = (kept.get(key) for key in ("what", "since", "until"))
    if not isinstance(what, str) or not isinstance(since, (int, float)) or not isinstance(until, (int, float)):
        return None
    worker, lost, told = kept.get("worker"), kept.get("lost"), kept.get("told")
    if not isinstance(worker, str) or not isinstance(lost, int) or not isinstance(told, int):
        return Gap(what, since / 1000, until / 1000)
    return Gap(what, since / 1000, until / 1000, worker, lost, told / 1000)


def _group(raw: bytes | None) -> tuple[GroupFacts, str] | None:
    """The stored value of a group of errors; None if it is gone or foreign."""
    if raw is None:
        return None
    try:
        return _group_in(raw)
    except ValueError:
        return None


def _within(bounds: Sequence[float], now: float, kept: float) -> list[float]:
    """The bounds, limited to the time for which data are kept."""
    return [min(max(one, now - kept), now + kept) for one in bounds]


def _fields(first: int, behind: int) -> dict[int, frozenset[bytes]]:
    """Hour -> its fields that may have a cell in a range of minutes since the epoch."""
    found = {}
    for hour in range(first // 60, (behind - 1) // 60 + 1):
        minutes = {b"%d" % minute: (hour * 60 + minute, hour * 60 + minute + 1) for minute in range(60)}
        tens = {b"t%d" % ten: (hour * 60 + ten * 10, hour * 60 + ten * 10 + 10) for ten in range(6)}
        places = {**minutes, **tens}.items()
        found[hour] = frozenset(field for field, (begin, end) in places if end > first and begin < behind)
    return found


def _cells(
    hours: Mapping[int, list[bytes]], fields: Mapping[int, frozenset[bytes]], known: dict[bytes, Cell | None]
) -> Iterator[tuple[Cell, int]]:
    """Cells, and how often each occurs: most minutes of a name that rarely runs are alike. Foreign ones are left out.

    :param hours: for each its fields, each before its cell.
    :param known: cells that were read before; other names may have the same.
    """
    wanted = (compress(raw[1::2], map(fields[hour].__contains__, raw[::2])) for hour in fields if (raw := hours[hour]))
    for cell, times in Counter(chain.from_iterable(wanted)).items():
        if cell not in known:
            known[cell] = _cell(cell)
        if (one := known[cell]) is not None:
            yield one, times


def _cell(raw: bytes) -> Cell | None:
    try:
        return _cell_in(raw)
    except ValueError:
        return None


def range_of(queue: int) -> tuple[int, int]:
    """The first score of a queue in `waits`, and the first after its last, as `lua/index/waits.lua` assigns them."""
    return queue << 42, (queue + 1) << 42


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
