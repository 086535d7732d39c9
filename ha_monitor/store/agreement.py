"""Checks whether the task records and the indexes agree: for `check --store`, and for tests after each fault.

Reads only, in steps of some milliseconds. Instances keep running meanwhile, so each disagreement is checked again: only
lasting ones are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Any, NamedTuple

from ha_monitor.clock import Clock
from ha_monitor.events.catalogue import Code
from ha_monitor.store.briefs import Briefs
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.kept import facts_of, wrong_clocks_of
from ha_monitor.store.keys import Keys
from ha_monitor.store.queries import MAX_CHILDREN, MAX_ENDED, MAX_NEWEST
from ha_monitor.store.record import Facts, WrongClocks
from ha_monitor.store.redis_queries import ORPHANED, range_of
from ha_monitor.store.worker_runs import MAX_ABANDONED

AT_ONCE = 100
"""Records that one round trip reads."""
SCANNED_AT_ONCE = 500
"""Keys, or entries of an index, that one call scans."""
MAX_WAITS, MAX_OPEN = 1_000_000, 1_000_000
"""Entries of an index above which a task may be missing from it, as in `lua/tables.lua`."""
MAX_RENAMED = 10
"""Tasks that may have been removed from a full list since, because they turned out to have another name."""
MAX_REPORTED = 1000
"""Disagreements that are reported."""
RECHECKS, PAUSE = 3, 0.5
"""How often a disagreement is checked again, and seconds before that."""

Progress = Callable[[int, int], None]
"""Gets the number of keys and entries checked so far, and about how many there are."""


class Disagreement(NamedTuple):
    """What an index says about a task, against its record."""

    task_id: str
    what: str
    """Such as `not in ended-badly, though it ended badly`."""
    in_list: str = ""
    """The list that contains the task and should not."""


class Agreement:
    """Checks all records and indexes. Each method raises `StoreUnavailable`."""

    def __init__(
        self, connection: StoreConnection, keys: Keys, clock: Clock, *, failure_ttl: float, keeps_open: bool
    ) -> None:
        """
        :param failure_ttl: seconds after which an index forgets what failed.
        :param keeps_open: whether the instances keep the index of open tasks.
        """
        self._call, self._call_all = connection.call, connection.call_all
        self._keys = keys
        self._briefs = Briefs(connection, keys)
        self._clock = clock
        self._failure_ttl = failure_ttl
        self._keeps_open = keeps_open
        self._by_task = (keys.ended_badly, keys.waits, keys.open, keys.open_since)
        """The indexes whose entries are ids of tasks."""
        self.records = 0
        """Records read so far."""
        self.entries = 0
        """Entries of indexes read so far."""
        self.is_cut = False
        """Whether the check stopped early, because of too many disagreements."""

    def disagreements(self, progress: Progress) -> list[Disagreement]:
        """All disagreements, at most a thousand."""
        indexes = (*self._by_task, self._keys.abandoned)
        total = sum(self._call_all(("DBSIZE",), *(("ZCARD", key) for key in indexes)))
        found: list[Disagreement] = []
        for ids, in_list in self._all_ids(lambda: self._report_progress(progress, total)):
            found += self._of(ids, in_list)
            self.is_cut = len(found) > MAX_REPORTED
            if self.is_cut:
                break
        progress(total, total)
        for _ in range(RECHECKS):
            if not found:
                break
            self._clock.sleep(PAUSE)
            found = self._recheck(found)
        return found[:MAX_REPORTED]

    def _report_progress(self, progress: Progress, total: int) -> None:
        done = self.records + self.entries
        progress(done, max(total, done + 1))  # the number of entries in lists is not known beforehand

    def _recheck(self, before: Sequence[Disagreement]) -> list[Disagreement]:
        suspects: dict[str, dict[str, None]] = {}
        for one in before:
            suspects.setdefault(one.in_list, {})[one.task_id] = None
        found = []
        for in_list, ids in suspects.items():
            still = self._still_in(in_list) if in_list else set(ids)
            for part in _in_parts([one for one in ids if one in still]):
                found += self._of(part, in_list)
        return list(dict.fromkeys(found))

    def _still_in(self, in_list: str) -> set[str]:
        if in_list == self._keys.abandoned:
            members = self._call("ZRANGE", in_list, 0, MAX_ABANDONED - 1)
            return {task_id for member in members if (task_id := _left_by(member)) is not None}
        return set(map(_text, self._call("LRANGE", in_list, 0, -1)))

    def _all_ids(self, progressed: Callable[[], None]) -> Iterator[tuple[list[str], str]]:
        """Ids of tasks that have a record or are in an index, and the list that they are in; most several times."""
        prefix = self._keys.task("").encode()
        for found in self._scan("SCAN", "MATCH", self._keys.task("*")):
            ids = [_text(key.removeprefix(prefix)) for key in found]
            self.records += len(ids)
            yield from ((part, "") for part in _in_parts(ids))
            progressed()
        for ids in self._briefs.all_ids():
            self.records += len(ids)
            yield from ((part, "") for part in _in_parts(ids))
            progressed()
        for key in self._by_task:
            for found in self._scan("ZSCAN", key):
                ids = [_text(name) for name in found[::2]]
                self.entries += len(ids)
                yield from ((part, "") for part in _in_parts(ids))
                progressed()
        for found in self._scan("ZSCAN", self._keys.abandoned):
            ids = [task_id for member in found[::2] if (task_id := _left_by(member)) is not None]
            self.entries += len(found) // 2
            yield from ((part, self._keys.abandoned) for part in _in_parts(ids))
            progressed()
        for key in (self._keys.newest("*"), self._keys.children("*")):
            for lists in self._scan("SCAN", "MATCH", key):
                for name in lists:
                    ids = [_text(one) for one in self._call("LRANGE", name, 0, MAX_CHILDREN - 1)]
                    self.entries += len(ids)
                    yield from ((part, _text(name)) for part in _in_parts(ids))
                progressed()

    def _scan(self, command: str, *arguments: Any) -> Iterator[list[bytes]]:
        before, more = ([arguments[0]], ()) if command == "ZSCAN" else ([], arguments)
        cursor: Any = 0
        while True:
            cursor, found = self._call(command, *before, cursor, *more, "COUNT", SCANNED_AT_ONCE)
            yield found
            if int(cursor) == 0:
                return

    def _of(self, ids: Sequence[str], in_list: str) -> list[Disagreement]:
        """The disagreements about some tasks. A task without a record is in order: it expired, and will be swept.

        :param in_list: a list that contains them; empty if none is meant.
        """
        keys = self._keys
        raw = self._call("MGET", *map(keys.task, ids))
        known = {one: facts for one, value in zip(ids, raw, strict=True) if value and (facts := facts_of(value))}
        clocks = {one: wrong_clocks_of(value) for one, value in zip(ids, raw, strict=True) if one in known}
        known |= self._briefs.facts([one for one, value in zip(ids, raw, strict=True) if value is None])
        if not known:
            return []
        if in_list == keys.abandoned:
            never = [one for one, facts in known.items() if not (facts.received_count or facts.started_count)]
            return [Disagreement(one, "in abandoned, though no worker ever had it", in_list) for one in never]
        if in_list:
            misplaced = [one for one, facts in known.items() if not self._may_be_in(in_list, facts)]
            return [
                Disagreement(one, f"in {in_list}, though its record has another name or root", in_list)
                for one in misplaced
            ]
        sizes = self._call_all(*(("ZCARD", key) for key in self._by_task[:3]))
        full = [size >= most for size, most in zip(sizes, (MAX_ENDED, MAX_WAITS, MAX_OPEN), strict=True)]
        now = float(self._call("TIME")[0])
        queues = _pairs(self._call("HGETALL", keys.wait_queues))
        lists = self._lists(list(dict.fromkeys(name for facts in known.values() for name in self._lists_of(facts))))
        scores = self._call_all(*(("ZSCORE", key, one) for one in known for key in self._by_task))
        found: list[Disagreement] = []
        for number, (task_id, facts) in enumerate(known.items()):
            ended, waits, opened, since = scores[4 * number : 4 * number + 4]
            expected = _Expected(facts, clocks.get(task_id, WrongClocks()))
            is_old = expected.heard_at < now - self._failure_ttl
            texts = [
                _about_end(expected, ended, may_lack=full[0] or is_old),
                _about_wait(expected, waits, queues, may_lack=full[1] or is_old),
                _about_open(expected, opened, may_lack=full[2] or is_old or not self._keeps_open),
                "in open-since and not in open" if since is not None and opened is None else "",
            ]
            for name in self._lists_of(facts):
                ids_in_it = lists[name]
                if ids_in_it is not None and task_id not in ids_in_it:
                    texts.append(f"not in {name}, though its record has that name or root")
            found += [Disagreement(task_id, text) for text in texts if text]
        return found

    def _lists_of(self, facts: Facts) -> list[str]:
        """The lists that must contain a task, as far as they are kept."""
        found = [] if facts.name is None else [self._keys.newest(facts.name)]
        return [*found, self._keys.children(facts.root_id)] if isinstance(facts.root_id, str) else found

    def _may_be_in(self, in_list: str, facts: Facts) -> bool:
        """Whether a list may contain a task. A record that shrank does not say which root its task had."""
        is_unknown = bool(facts.marks) and in_list.startswith(self._keys.children(""))
        return is_unknown or in_list in self._lists_of(facts)

    def _lists(self, names: Sequence[str]) -> dict[str, frozenset[str] | None]:
        """The ids in lists; None for one that is full or not kept, since it may lack any."""
        found: dict[str, frozenset[str] | None] = {}
        for name, size in zip(names, self._call_all(*(("LLEN", name) for name in names)), strict=True):
            most = MAX_NEWEST - MAX_RENAMED if name.startswith(self._keys.newest("")) else MAX_CHILDREN
            is_whole = 0 < size < most
            found[name] = frozenset(map(_text, self._call("LRANGE", name, 0, -1))) if is_whole else None
        return found


class _Expected:
    """What a record says about the indexes that must contain its task."""

    def __init__(self, facts: Facts, clocks: WrongClocks) -> None:
        self.has_ended = facts.finish is not None
        self.failed = self.has_ended and facts.finish != Code.SUCCEEDED
        self.code = facts.finish
        times = (facts.sent, facts.received, facts.started, facts.retried, facts.finished)
        self.heard_at = max(at or 0 for at in times) / 1e6
        """Seconds since the epoch, by the senders' clocks."""
        self.is_known = bool(facts.sent or facts.received_count or facts.started_count)
        again = (facts.sent, facts.received, facts.started, facts.retried)
        self.runs_again = self.has_ended and max(at or 0 for at in again) > (facts.finished or 0)
        closed = facts.retried_count + facts.requeued_count
        waits = bool(facts.sent) and facts.queue is not None and not self.has_ended and facts.started_count <= closed
        self.queue = facts.queue if waits else None
        sent, due, retried = facts.sent or 0, facts.eta or 0, facts.retried or 0
        # An entry of an earlier version has the time as its sender said it.
        self.since = {max(at, due) // 1000 for at in (clocks.queued_at(sent, retried), max(sent, retried))}


def _about_end(expected: _Expected, score: bytes | None, *, may_lack: bool) -> str:
    if score is None:
        return "" if may_lack or not expected.failed else "not in ended-badly, though it ended badly"
    code = _whole(score) % 16
    if code in ORPHANED:
        return "in ended-badly as orphaned, though it has ended" if expected.has_ended else ""
    return "" if expected.failed and code == expected.code else "in ended-badly, though it ended differently"


def _about_wait(expected: _Expected, score: bytes | None, queues: dict[bytes, bytes], *, may_lack: bool) -> str:
    if expected.queue is None:
        return "" if score is None else "in waits, though it does not wait"
    number = queues.get(expected.queue.encode("utf-8", "surrogatepass"), b"")
    if score is None:
        return "" if may_lack or not number else f"not in waits, though it waits in {expected.queue}"
    if not number.isdigit() or _whole(score) - range_of(int(number))[0] not in expected.since:
        return "in waits with another queue or time"
    return ""


def _about_open(expected: _Expected, score: bytes | None, *, may_lack: bool) -> str:
    if score is None:
        return (
            "" if may_lack or expected.has_ended or not expected.is_known else "not in open, though it is not finished"
        )
    return "in open, though it has ended" if expected.has_ended and not expected.runs_again else ""


def _left_by(member: bytes) -> str | None:
    """The id in an entry of `abandoned`, as `lua/index/abandoned.lua` makes it; None if it has another form."""
    length, _, rest = member.partition(b":")
    return _text(rest[int(length) :]) if length.isdigit() and len(length) <= 9 else None


def _in_parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(ids), AT_ONCE):
        yield list(dict.fromkeys(ids[at : at + AT_ONCE]))


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _whole(score: bytes) -> int:
    """A score that a script wrote; 0 for a foreign one, which may be infinite."""
    number = float(score)
    return int(number) if isfinite(number) else 0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
