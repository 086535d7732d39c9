"""The record of a task: facts merged as `lua/record.lua` merges them, without its bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from ha_monitor.events.catalogue import Awaits, Code, State
from ha_monitor.events.facts import Fact
from ha_monitor.events.model import Event
from ha_monitor.events.types import AWAITS, ENDS
from ha_monitor.store.outbox import Entry
from ha_monitor.store.packing import bytes_of
from ha_monitor.store.record import Facts
from ha_monitor.store.results import Phase

_DEFINITION = "nakrpe"
_LAST = {Code.RECEIVED: ("rc", "rl"), Code.STARTED: ("sc", "sl"), Code.RETRIED: ("xc", "xl")}
_MAX_BRIEF = 5
"""Events of a task whose record may shrink, at most; as in briefs.lua."""
_HARD_LIMIT = re.compile(r"TimeLimitExceeded\((\d++(?:\.\d++)?)")
_IN_STEPS: dict[Code, Phase] = {Code.SENT: "sent", Code.RECEIVED: "received", Code.STARTED: "started"}
_MAX_TRACEBACK, _MAX_RETRIES = 4096, 5
"""Bytes of the end of a traceback, and retries whose errors are kept; as in error_groups.lua."""
by_time = itemgetter(0)
read_event = msgspec.msgpack.Decoder(Event).decode


class KeptError(NamedTuple):
    """One error of a task."""

    at: int
    """In µs; an invalid time, and one in the future, is replaced by the time of the merge."""
    message: str
    task_id: str
    """Empty until it is put into its group."""
    code: int
    error: list[str]
    """Fingerprint, class and place."""
    traceback: str | None
    """None if it is not announced."""


class MemoryTask:
    """What is known about one task. `copy` it before changing it, so that a merge that fails changes nothing."""

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}
        self._seen: set[bytes] = set()
        self._waiting: list[tuple[int, Code, bytes, float]] = []
        """Times, codes and events of what waits, and since when."""
        self._errors: list[tuple[KeptError, float]] = []
        """Errors that are not in a group yet, and since when they wait for the task's name."""
        self._runs: list[tuple[int, int, int | None]] = []
        """Ended runs that are not in the statistics yet: code, time in µs and bucket of the run time."""
        self._steps: list[tuple[int, Code, int]] = []
        """When it was sent, received (with the number of the attempt), started or ended."""
        self._sent: list[tuple[int, str, int]] = []
        """When it was sent, to which queue, and its eta or 0."""
        self._put_back: list[int] = []
        """When it was requeued."""
        self.story: list[tuple[int, int]] = []
        """Time in µs and code of each event."""
        self.named = 0
        """Its number among all tasks in the order in which their names became known, from 1; 0 while it has none."""
        self.announce_until: float | None = None
        """When what waits is announced as it is, seconds since the epoch; None if nothing waits."""
        self.shrinks_at: float | None = None
        """Seconds since the epoch; None if it does not."""
        self.root_before: str | None = None
        """Its root before it shrank."""

    def shrink_later(self, now: float, seconds: float | None) -> None:
        """Shrink after so many seconds, unless they are None, if the record of such a task may shrink (see
        `lua/briefs.lua`).
        """
        self.shrinks_at = None
        if seconds is None:
            return
        facts = self.facts
        runs = max(facts.finished_count, facts.received_count, facts.started_count)
        again = facts.retries or facts.retried_count or facts.requeued_count or facts.reconciled
        waits = self._waiting or self._errors or self._runs
        may = facts.finish == Code.SUCCEEDED and runs == 1 and not again and facts.name is not None and not waits
        if may and len(self._seen) <= _MAX_BRIEF:
            self.shrinks_at = now + seconds

    def at(self, now: float) -> MemoryTask:
        """A copy as it is at a time, in seconds since the epoch."""
        other = self.copy()
        if self.shrinks_at is not None and self.shrinks_at <= now:
            other.shrinks_at, other.root_before = None, self._facts.get("r") or self.root_before
            for key in "akrp":
                other._facts.pop(key, None)
            other._facts["sh"] = [1] * len(self._seen)
            kept = {Code.SENT, Code.RECEIVED, Code.STARTED, Code.SUCCEEDED}
            other.story = [one for one in self.story if one[1] in kept]
        return other

    def copy(self) -> MemoryTask:
        other = MemoryTask.__new__(MemoryTask)
        vars(other).update(vars(self))
        other._facts, other._seen, other._waiting = dict(self._facts), set(self._seen), list(self._waiting)
        other._steps, other.story = list(self._steps), list(self.story)
        other._errors, other._runs = list(self._errors), list(self._runs)
        other._sent, other._put_back = list(self._sent), list(self._put_back)
        return other

    def is_below(self, root_id: str) -> bool:
        """Whether that is, or was, its root."""
        return root_id in (self._facts.get("r"), self.root_before)

    @property
    def facts(self) -> Facts:
        return msgspec.convert(self._facts, Facts)

    def facts_at(self, at: int) -> Facts:
        """The facts for an event at a time: without what was before an earlier end if it belongs to a later run."""
        facts = self.facts
        ended = max((time for time, code, _ in self._steps if code in ENDS and time < at), default=None)
        if ended is None:
            return facts
        steps = [step for step in self._steps if ended < step[0] <= at]

        def last(code: Code) -> int | None:
            return max((time for time, step, _ in steps if step is code), default=None)

        return replace(
            facts,
            sent=last(Code.SENT),
            received=last(Code.RECEIVED),
            started=last(Code.STARTED),
            retries=max((number for _, _, number in steps), default=0),
        )

    def merge(self, fact: Fact, now: float) -> bool:
        """Merge a fact; returns whether it was new. :param now: seconds since the epoch."""
        identity = bytes_of(fact[0])
        if identity in self._seen:
            return False
        self._seen.add(identity)
        code, at = fact[1], fact[2]
        self.story.append((at, int(code)))
        if code in _IN_STEPS or code in ENDS:
            self._steps.append((at, Code(code), fact[6] if code in (Code.SENT, Code.RECEIVED) else 0))
        if code in (Code.SENT, Code.RECEIVED):
            self._define(fact[5], fact[6], at)
            self._sent += [(at, fact[7], (fact[5] or {}).get("e", 0))] if len(fact) > 7 and fact[7] is not None else []
        if code is Code.SENT and at >= self._facts.get("st", -1):
            self._facts.update(st=at, q=fact[7])
        if code in (Code.RECEIVED, Code.STARTED) and at >= max(self._facts.get("rl", -1), self._facts.get("sl", -1)):
            self._facts["w"] = fact[3]
        if code in _LAST:
            count, last = _LAST[code]
            self._facts[count] = self._facts.get(count, 0) + 1
            self._facts[last] = max(self._facts.get(last, -1), at)
            if code is Code.RETRIED:
                self._facts["re"] = max(self._facts.get("re", 0), self._facts[count])
        elif code is Code.REQUEUED:
            self._facts["jc"] = self._facts.get("jc", 0) + 1
            self._put_back.append(at)
        elif code in ENDS:
            if self._is_reported_twice(fact, at):
                self._facts["tc"] -= 1
                self._end(fact, at)
                return True
            self._end(fact, at)
        self._note_error(fact, now)
        if code in (Code.SUCCEEDED, Code.FAILED, Code.RETRIED):
            bucket = fact[6] if code is Code.SUCCEEDED and len(fact) > 6 else None
            self._runs.append((int(code), at, bucket))
        if fact[4] is not None:
            self._waiting.append((at, code, bytes_of(fact[4]), now))
        return True

    def announce(self, wait: float, now: float, *, waited_enough: float = float("-inf")) -> list[Entry]:
        """What may be announced now; the rest waits for missing facts.

        :param wait: seconds for which it waits at least.
        :param waited_enough: what has waited since this time, in seconds since the epoch, or longer, waits no longer.
        """
        if not self._waiting:
            return []
        going = [one for one in self._waiting if one[3] <= waited_enough or self._is_complete(one[1])]
        self._waiting = [one for one in self._waiting if one not in going]
        self.announce_until = min((since + wait for *_, since in self._waiting), default=None)
        return [
            Entry(
                *(0, read_event(payload), self.facts_at(at), not self._is_complete(code)),
                waited_since=since * 1000 if since < now else 0.0,
            )
            for at, code, payload, since in sorted(going, key=by_time)
        ]

    def take_errors(self, *, waited_enough: float = float("-inf")) -> list[KeptError]:
        """Errors that belong into a group now: all if the name is known, else those that have waited enough."""
        if not self._errors:
            return []
        is_known = self._facts.get("n") is not None
        taken = [error for error, since in self._errors if is_known or since <= waited_enough]
        self._errors = [one for one in self._errors if one[0] not in taken]
        return taken

    def take_runs(self) -> list[tuple[int, int, int | None]]:
        """Runs that are to be counted now; none while the name is not known."""
        if self._facts.get("n") is None:
            return []
        taken, self._runs = self._runs, []
        return taken

    def wait(self) -> tuple[str, int, float] | None:
        """Name, start in µs and seconds of wait before the latest start; None if one of them is not known. Only for a
        task with one run.
        """
        get = self._facts.get
        name, start, sent = get("n"), get("sl"), get("st") or get("rl")
        if name is None or not start or not sent:
            return None
        return name, start, max(0, start - max(sent, get("e") or 0)) / 1e6

    def put_clock_back(self, now: float, wait: float) -> None:
        """Because the clock was put back, what waits begins to wait now at the latest.

        :param wait: seconds for which it waits at least.
        """
        self._waiting = [(at, code, payload, min(since, now)) for at, code, payload, since in self._waiting]
        self.announce_until = min((since + wait for *_, since in self._waiting), default=None)

    def let_wait_end(self) -> None:
        """End the wait of everything that waits."""
        self._waiting = [(at, code, payload, 0.0) for at, code, payload, _ in self._waiting]
        self.announce_until = 0.0 if self._waiting else None

    def bad_end(self, now: float) -> tuple[float, State] | None:
        """When it ended, seconds since the epoch, and how; None if it succeeded or has not ended."""
        finish = self._facts.get("tk")
        if finish in (None, Code.SUCCEEDED):
            return None
        at = self._facts["tt"] // 1000 / 1000
        return min(at, now) if at > 0 else now, ENDS[finish].state

    def waits(self) -> tuple[str, float] | None:
        """The queue in which it waits, and since when it could have started, seconds since the epoch."""
        get = self._facts.get
        sent, queue, closed = get("st"), get("q"), get("xc", 0) + get("jc", 0)
        if not sent or queue is None or "tk" in self._facts or get("sc", 0) > closed:
            return None
        return queue, max(sent, get("e") or 0, get("xl", 0)) // 1000 / 1000

    def moves(self) -> Iterator[tuple[str, int, tuple[float, float, float, float]]]:
        """What came into queues and left them: queue, time in µs, and the values of a `queue_flow.Cell`. All runs count
        for the queue to which the task was last sent.
        """
        for at, queue, eta in self._sent:
            yield queue, max(at, eta), (1, 0, 0, 0)
        get = self._facts.get
        last, started, ended = get("q"), get("sl"), get("tt")
        if last is None:
            return
        for at, code, _ in self._steps:
            if code is Code.STARTED:
                yield last, at, (0, 1, 0, 0)
        for at in self._put_back:
            yield last, at, (1, 0, 0, 0)
        if ended is None:
            return
        if started is None:
            yield last, ended, (0, 1, 0, 0)
        took = get("rt")
        if took is None and get("tk") == Code.FAILED and started is not None and started < ended:
            took = (ended - started) / 1e6
        if took is not None:
            yield last, ended, (0, 0, 1, int(took * 1000 + 0.5))

    @property
    def is_open(self) -> bool:
        """Whether it is not finished, or has begun again."""
        return "tk" not in self._facts or self.phase() is not None

    def phase(self) -> tuple[Phase, int] | None:
        """The phase of the open task, and since when in µs; None if it has ended, or the phase is not known."""
        if "tk" in self._facts:
            return self._phase_after_end()
        get = self._facts.get
        closed = get("xc", 0) + get("jc", 0)
        started, received, due = get("sl", -1), get("rl", -1), get("e", -1)
        if get("sc", 0) > closed and started >= received:
            return "started", started
        if get("rc", 0) > closed:
            return "received", max(received, due)
        if closed or "st" in self._facts:
            return "sent", max(get("st", -1), get("xl", -1), received, started, due)
        return None

    def _phase_after_end(self) -> tuple[Phase, int] | None:
        ended = max(time for time, code, _ in self._steps if code in ENDS)
        later = (step for step in self._steps if step[0] > ended and not self._is_late_sending(*step))
        step = max(later, default=None)
        return None if step is None else (_IN_STEPS[step[1]], step[0])

    def _is_late_sending(self, at: int, code: Code, attempt: int) -> bool:
        """Whether it is the only task-sent of an attempt that a worker had received before; see `lua/runs.lua`."""
        if code is not Code.SENT:
            return False
        of_attempt = [(time, step) for time, step, number in self._steps if number == attempt]
        sendings = sum(step is Code.SENT for _, step in of_attempt)
        return sendings == 1 and any(step is Code.RECEIVED and time < at for time, step in of_attempt)

    def _note_error(self, fact: Fact, now: float) -> None:
        code, at = fact[1], fact[2]
        if code not in (Code.FAILED, Code.RETRIED) or len(fact) < 8:
            return
        if code is Code.RETRIED:
            retries = [*self._facts.get("gr", ()), (at, fact[7][0])]
            self._facts["gr"] = sorted(retries)[-_MAX_RETRIES:]
        text = None if fact[4] is None else tail(read_event(bytes_of(fact[4])).fields.get("traceback") or "")
        self._errors.append((KeptError(at, fact[6], "", int(code), fact[7], text), now))

    def _define(self, definition: dict[str, Any] | None, retries: int, at: int) -> None:
        if definition and at >= self._facts.get("d", -1):
            for key in _DEFINITION:
                self._facts.pop(key, None)
            self._facts.update(definition, d=at)
        self._facts["re"] = max(self._facts.get("re", 0), retries)

    def _end(self, fact: Fact, at: int) -> None:
        code = fact[1]
        facts = self._facts
        facts["tc"] = facts.get("tc", 0) + 1
        before = self._precedence(facts["tk"], facts["tt"]) if "tk" in facts else (-1, -1, -1)
        if self._precedence(code, at) > before:
            runtime = fact[5] if code is Code.SUCCEEDED else None
            facts.update(tk=int(code), tt=at, rt=runtime, ex=None, g=None)
            if code is Code.FAILED:
                facts.update(ex=fact[6], g=fact[7][0] if len(fact) > 7 else None)

    def _is_reported_twice(self, fact: Fact, at: int) -> bool:
        get = self._facts.get
        if fact[1] is not Code.FAILED or get("tk") != Code.FAILED or fact[6] != get("ex"):
            return False
        limit = _HARD_LIMIT.match(fact[6] or "")
        return get("w", fact[3]) == fact[3] and limit is not None and abs(at - get("tt", 0)) < float(limit[1]) * 1e6

    @staticmethod
    def _precedence(code: int, at: int) -> tuple[int, int, int]:
        end = ENDS[code]
        return end.rank, at, end.tie

    def _is_complete(self, code: Code) -> bool:
        get, awaits = self._facts.get, AWAITS.get(code, Awaits.NAME)
        if awaits is Awaits.NOTHING:
            return True
        if get("n") is None:
            return False
        if awaits is Awaits.ALL_STARTS:
            return bool(get("sc", 0) > get("re", 0) + get("jc", 0))
        return bool(code is not Code.RETRIED or get("sc", 0) >= get("xc", 0))


def tail(text: str) -> str:
    """The end of a traceback, cut at the beginning of a line, or at least of a character."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= _MAX_TRACEBACK:
        return text
    cut = raw[-_MAX_TRACEBACK:]
    line = cut.find(b"\n")
    return (cut[line + 1 :] if 0 <= line < len(cut) - 1 else cut).decode("utf-8", "ignore")
