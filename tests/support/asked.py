"""What the store answers about tasks, worked out from the events themselves; and events for which it is not trivial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from ha_monitor.events.catalogue import Code, State
from ha_monitor.events.error_group import group_id
from ha_monitor.events.fingerprint import fingerprint_of
from ha_monitor.events.types import ENDS, TASK_CODES
from ha_monitor.store.queries import Ended, StoryEvent
from tests.unit.builders import TIME, event

Body = dict[str, Any]
KINDS = (
    *("task-sent", "task-received", "task-received", "task-started", "task-started", "task-succeeded", "task-failed"),
    *("task-rejected", "task-revoked", "task-retried", "task-custom"),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Body]:
    """Events of some tasks, no two of a task at one time. A task says the same of itself in all of them."""
    found = []
    for number in range(draw(st.integers(1, 5))):
        kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8))
        at = TIME + draw(st.integers(0, 5))
        queue, eta = draw(st.sampled_from(["celery", "mail", None])), draw(st.sampled_from([None, TIME + 3.5]))
        root = draw(st.sampled_from([None, f"task-{number}", "task-0", "unheard"]))
        own: Body = {"name": draw(st.sampled_from(["shop.pay", "shop.ship"])), "hostname": "celery@host"}
        for kind in kinds:
            at += draw(st.sampled_from([0.001, 0.25, 1.0]))
            requeue = {"requeue": draw(st.booleans())} if kind == "task-rejected" else {}
            own |= {"root_id": root} if kind in ("task-sent", "task-received") else {}
            changes = own | requeue | ({"queue": queue, "eta": iso(eta)} if kind == "task-sent" else {})
            found.append(event(kind, at=round(at, 3), uuid=f"task-{number}", **changes))
    return found


@st.composite
def deliveries(draw: st.DrawFn, history: Sequence[Body]) -> list[tuple[int, list[Body]]]:
    """Each event at least once, in any order, in batches, each with the number of one of two instances."""
    order = draw(st.permutations([*history, *draw(st.lists(st.sampled_from(history), max_size=6))]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=5)) | {len(order)})
    starts = [0, *cuts[:-1]]
    return [(draw(st.integers(0, 1)), order[start:stop]) for start, stop in zip(starts, cuts, strict=True)]


class Truth:
    """The answers, from all events."""

    def __init__(self, history: Iterable[Body]) -> None:
        self.events: dict[str, list[Body]] = {}
        for body in sorted(history, key=lambda body: body["timestamp"]):
            self.events.setdefault(body["uuid"], []).append(body)

    def end(self, task_id: str) -> Ended | None:
        """The end that counts, if it has one."""
        ends = [(ENDS[code], body) for body in self.events[task_id] if (code := code_of(body)) in ENDS]
        best = max(ends, key=lambda one: (one[0].rank, one[1]["timestamp"]), default=None)
        return None if best is None else Ended(task_id, round(best[1]["timestamp"], 3), best[0].state)

    def story(self, task_id: str) -> tuple[StoryEvent, ...]:
        """What happened to a task."""
        errors = self.errors(task_id)
        return tuple(story_event(body, errors.get(body["timestamp"])) for body in self.events[task_id])

    def errors(self, task_id: str) -> dict[float, str]:
        """The groups of a task's errors, by when they came: of the last five retries, and of the end that counts."""
        events, end = self.events[task_id], self.end(task_id)
        name = next((body["name"] for body in events if body["type"] in ("task-sent", "task-received")), None)
        told = [body for body in events if body["type"] == "task-retried"][-5:]
        if end is not None and end.state is State.FAILURE:
            told += [body for body in events if body["type"] == "task-failed" and round(body["timestamp"], 3) == end.at]
        return {body["timestamp"]: group_id(name, digest_of(body)) for body in told}

    def waits(self, task_id: str) -> tuple[str, float] | None:
        """The queue in which a task waits, and since when it could have started."""
        at: dict[int, list[float]] = {}
        for body in self.events[task_id]:
            at.setdefault(code_of(body), []).append(body["timestamp"])
        defined = [body for body in self.events[task_id] if body["type"] in ("task-sent", "task-received")]
        sent = [body for body in defined if body["type"] == "task-sent"]
        is_over = self.end(task_id) or len(at.get(Code.STARTED, [])) > sum(
            len(at.get(code, [])) for code in (Code.RETRIED, Code.REQUEUED)
        )
        if is_over or not sent or sent[-1]["queue"] is None:
            return None
        due = TIME + 3.5 if defined[-1]["eta"] else 0.0
        since = max(sent[-1]["timestamp"], due, *at.get(Code.RETRIED, [0.0]))
        return sent[-1]["queue"], int(since * 1e6) // 1000 / 1000

    def waiting(self) -> dict[str, list[tuple[str, float]]]:
        """The tasks that wait, longest first, by queue."""
        found: dict[str, list[tuple[str, float]]] = {}
        for task_id in sorted(self.events):
            if (wait := self.waits(task_id)) is not None:
                found.setdefault(wait[0], []).append((task_id, wait[1]))
        return {queue: sorted(tasks, key=lambda one: (one[1], one[0])) for queue, tasks in found.items()}

    def children(self) -> dict[str, list[str]]:
        """The tasks whose root is another task, by it."""
        found: dict[str, list[str]] = {}
        for task_id, events in sorted(self.events.items()):
            roots = [body["root_id"] for body in events if body["type"] in ("task-sent", "task-received")]
            if roots and roots[-1] and roots[-1] != task_id:
                found.setdefault(roots[-1], []).append(task_id)
        return found

    def by_name(self) -> dict[str, list[str]]:
        """The tasks whose names are known, by name."""
        found: dict[str, list[str]] = {}
        for task_id, events in sorted(self.events.items()):
            if any(body["type"] in ("task-sent", "task-received") for body in events):
                found.setdefault(events[0]["name"], []).append(task_id)
        return found

    def ended_badly(self) -> list[Ended]:
        found = [one for task_id in self.events if (one := self.end(task_id)) and one.state is not State.SUCCESS]
        return sorted(found, key=lambda one: (one.at, one.task_id), reverse=True)


def iso(at: float | None) -> str | None:
    """A time as Celery writes an eta."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def code_of(body: Body) -> int:
    """The code of an event, as the record has it."""
    code = TASK_CODES.get(body["type"], 0)
    return 5 if body["type"] == "task-rejected" and body["requeue"] else int(code)


def digest_of(body: Body) -> str:
    """The fingerprint of an error."""
    return fingerprint_of(body["exception"], body["traceback"], of_retry=body["type"] == "task-retried").digest


def story_event(body: Body, error: str | None = None) -> StoryEvent:
    """An event as a story has it.

    :param error: the group of the error that it tells of.
    """
    kind: str = body["type"]
    at = int(body["timestamp"] * 1e6) / 1e6
    return StoryEvent("custom" if kind == "task-custom" else kind, at, code_of(body) == 5, error)
