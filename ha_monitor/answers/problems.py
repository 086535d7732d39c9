"""What is wrong now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ha_monitor.answers.result import Result
from ha_monitor.query.problem_items import problem_item
from ha_monitor.query.problems import problems as known_problems
from ha_monitor.store.incidents import Incident, Phase, Severity
from ha_monitor.store.reader import StoreReader, WorkerEntry


def count_text(incidents: Sequence[Incident]) -> str:
    """How much is wrong, in the same words everywhere: incidents that page somebody, other incidents, and pending ones.
    Empty if nothing is wrong.
    """
    firing = [one for one in incidents if one.phase is Phase.FIRING]
    urgent = sum(one.severity is Severity.PAGE for one in firing)
    others = len(firing) - urgent
    pending = sum(one.phase is Phase.PENDING for one in incidents)
    parts = (
        (urgent, "problem" if urgent == 1 else "problems"),
        (others, "to look at"),
        (pending, "pending"),
    )
    return ", ".join(f"{number:,} {words}" for number, words in parts if number)


class ProblemsAnswer(NamedTuple):
    """The incidents that were asked for, and all that exist."""

    result: Result
    known: list[Incident]
    """Worst first, including those that were resolved within the last hour."""
    is_judged: bool
    """Whether anything was judged lately; if not, an empty list proves nothing."""

    @property
    def any_fires(self) -> bool:
        """Whether any incident fires; pending ones do not count."""
        return any(one.phase is Phase.FIRING for one in self.known)


def problems(
    reader: StoreReader, workers: Sequence[WorkerEntry], limit: int = 0, *, over: bool = False, reverse: bool = False
) -> ProblemsAnswer:
    """The incidents, worst first.

    :param workers: all workers that were read, to see whether many were started lately.
    :param over: also list those that were resolved within the last hour.
    :param limit: how many; 0 for all.
    :raises StoreUnavailable: as the reader does.
    """
    now = reader.queries.now()
    found = known_problems(reader, workers, now)
    wanted = [one for one in found.incidents if one.is_open or over]
    if reverse:
        wanted.reverse()
    shown = wanted[:limit] if limit else wanted
    result = Result(
        now, shown, lambda one, _now: problem_item(one), found.seen_by, found.gaps, len(wanted) > len(shown)
    )._replace(changes=found.changes)
    return ProblemsAnswer(result, found.incidents, found.is_judged)
