"""Asks Redis for open tasks: see `queries.TaskQueries`."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.keys import Keys
from ha_monitor.store.queries import OpenPage

FIRST_PAGE, ENTRIES_AT_ONCE = 100, 1000
"""Entries of an index that one call reads, at first and at most."""
MAX_FIRST_LOOK = 3_600_000
"""The most ms by which a first look is later than its task, as in `lua/looks.lua`."""
SLACK = 5000
"""Ms by which a task may be newer than its entry in `open` says: the entry is rounded to seconds, and for a sender
whose clock is ahead it has the time by Redis's clock.
"""


class RedisOpenQueries:
    """A part of `RedisQueries`."""

    def __init__(self, connection: StoreConnection, keys: Keys) -> None:
        self._connection = connection
        self._call = connection.call
        self._keys = keys

    def open(self, count: int, offset: int = 0) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            first, most = offset + len(found), min(ENTRIES_AT_ONCE, count - len(found))
            some = self._call("ZRANGE", self._keys.open, first, first + most - 1)
            found += map(_text, some)
            if len(some) < most:
                break
        return found

    def newest_open(self, until: float | None = None, *, running: bool = False) -> Iterator[OpenPage]:
        # A task that the leader has not looked at yet is in `open` by the time of its first look, a known time after
        # the task; all others are in `open_since` by the time of the task. So both are read in parallel, newest first.
        least, most = self._ahead()
        seconds, microseconds = self._call("TIME")
        latest = int(seconds) * 1000 + int(microseconds) // 1000
        if until is not None:
            latest = min(latest, int(max(until, 0.0) * 1000))
        start = latest + most + SLACK
        new = _Walk(self._connection, self._keys.open, start, least - SLACK)
        old = _Walk(self._connection, self._keys.open_since, None if until is None else latest, 0)
        size = FIRST_PAGE
        while not (new.is_over and old.is_over):
            walk = max(new, old, key=lambda one: one.bound)
            ids = walk.read(size)
            bound = max(new.bound, old.bound) / 1000
            yield OpenPage(self._shown(ids, is_new=walk is new, running=running), bound)
            size = min(2 * size, ENTRIES_AT_ONCE)
        # Tasks that a leader of an earlier version has looked at are only in `open`, by the time of their next look.
        rest = _Walk(self._connection, self._keys.open, None, 0, least=start)
        while not rest.is_over:
            yield OpenPage(self._shown(rest.read(ENTRIES_AT_ONCE), is_new=True, running=running), None)

    def all_open(self) -> Iterator[list[str]]:
        # Upwards, since a task that the leader looks at meanwhile gets a higher score.
        walk = _Walk(self._connection, self._keys.open, None, 0, upwards=True)
        while not walk.is_over:
            yield [_text(one) for one in walk.read(ENTRIES_AT_ONCE)]

    def _ahead(self) -> tuple[int, int]:
        """How many ms after a task its first look is, at least and at most: instances may differ, and those of an
        earlier version do not say.
        """
        tokens = self._call("ZRANGE", self._keys.leases, 0, -1)
        keys = [self._keys.instance(int(token)) for token in tokens if token.isdigit()]
        replies = self._connection.call_all(*(("HGET", key, "first_look") for key in keys))
        known = [int(one) if one is not None and one.isdigit() else None for one in replies]
        if not known or None in known:
            return 0, MAX_FIRST_LOOK
        numbers = [min(one, MAX_FIRST_LOOK) for one in known if one is not None]
        return min(numbers), max(numbers)

    def _shown(self, ids: list[bytes], *, is_new: bool, running: bool) -> list[str]:
        """The ids without tasks of the other index, and without those that have not started."""
        for key in [self._keys.open_since] * is_new + [self._keys.waits] * running:
            if ids:
                known = self._call("ZMSCORE", key, *ids)
                ids = [one for one, score in zip(ids, known, strict=True) if score is None]
        return [_text(one) for one in ids]


class _Walk:
    """Walks through a sorted set by score, from the highest down or upwards. Entries that come or go meanwhile do not
    disturb it: each call continues from the last score; if more entries have that score than a call reads, from the
    middle of what it has read.
    """

    def __init__(
        self,
        connection: StoreConnection,
        key: str,
        start: int | None,
        ahead: int,
        *,
        least: int | None = None,
        upwards: bool = False,
    ) -> None:
        """
        :param start: the highest score; None for all, as for upwards.
        :param ahead: ms by which the scores are later than the tasks.
        :param least: a score below all wanted ones; None for all.
        """
        self._connection = connection
        self._key = key
        self._command = "ZRANGEBYSCORE" if upwards else "ZREVRANGEBYSCORE"
        ends = ("-inf", "+inf") if upwards else ("+inf", "-inf")
        self._start: int | str = ends[0] if start is None else start
        self._end = ends[1] if least is None else f"({least}"
        self._passed = 0
        """Entries of the first score that are skipped."""
        self._read: frozenset[bytes] = frozenset()
        """What the last call read."""
        self._ahead = ahead
        self.bound = float("inf")
        """No task that is still to be returned was first heard of later: ms since the epoch; infinite before the first
        call.
        """
        self.is_over = False

    def read(self, count: int) -> list[bytes]:
        """The next ids."""
        limit = ("WITHSCORES", "LIMIT", self._passed, count)
        found = self._connection.call(self._command, self._key, self._start, self._end, *limit)
        ids, scores = found[::2], found[1::2]
        new = [one for one in ids if one not in self._read]
        self._read = frozenset(ids)
        if len(ids) < count:
            self.is_over, self.bound = True, float("-inf")
            return new
        last = scores[-1].decode()
        if scores[0] == scores[-1]:
            self._passed = (self._passed if last == self._start else 0) + max(1, count // 2)
        else:
            self._passed = 0
        self._start, self.bound = last, float(last) - self._ahead
        return new


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
