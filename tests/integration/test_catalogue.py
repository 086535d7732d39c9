"""The catalogue of events in a real Redis: which end counts, what is counted, and that a new state is a row."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.events.catalogue import TASK_EVENTS, Code, TaskEvent
from tests.integration.storing import Inside, Instance
from tests.integration.test_counting import counter, samples
from tests.support.documents import ROOT
from tests.unit.builders import TIME, UUID, event

ENDS = [row for row in TASK_EVENTS if row.end is not None]


def event_of(row: TaskEvent, at: float, **changes: Any) -> dict[str, Any]:
    """An event of a row; two rows of one type differ in `requeue`."""
    if row.type == "task-rejected":
        changes["requeue"] = row.code is Code.REQUEUED
    return event(row.type, at=at, **changes)


def counting_end(first: TaskEvent, second: TaskEvent, later: int) -> TaskEvent:
    """The one of two that the catalogue says counts, where the second is so much later."""
    assert first.end is not None
    assert second.end is not None
    is_second = (second.end.rank, later, second.end.tie) > (first.end.rank, 0, first.end.tie)
    return second if is_second else first


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations(ENDS, 2)), ids=lambda row: row.code.name if row else ""
)
def test_of_two_ends_the_catalogue_s_counts(store_url: str, first: TaskEvent, second: TaskEvent) -> None:
    """Given two ends of a task, at one time or one later, in both orders of arrival, the state is that of the one of
    the higher rank, else of the later, else of the higher tie.
    """
    instance, inside = Instance(store_url).start(), Inside(store_url)

    for later, backwards in itertools.product((-1, 0, 1), (False, True)):
        inside.redis.delete(inside.keys.task(UUID))
        bodies = [event_of(first, TIME), event_of(second, TIME + later)]
        for body in reversed(bodies) if backwards else bodies:
            instance.apply(body)
        expected = counting_end(first, second, later)
        assert expected.end is not None
        assert inside.task(UUID).state == expected.end.state, (later, backwards)


def test_each_type_has_its_counter(store_url: str) -> None:
    """Given an event of each row, each is counted once, by the counter of its row."""
    one = counter(store_url)
    rows = [row for row in TASK_EVENTS if row.counter is not None]
    one.apply([event_of(row, TIME + number) for number, row in enumerate(rows)])
    one.tick()

    expected = Counter(f"celery_task_{row.counter.word}_total" for row in rows if row.counter is not None)
    found: Counter[str] = Counter()
    for (name, _), value in samples(one).values.items():
        if name in expected:
            found[name] += int(value)
    assert found == expected


# --- a new state is a row ----------------------------------------------------------------------

CODE = ("    SUCCEEDED = 10\n", "    SUCCEEDED = 10\n    CANCELLED = 11\n")
STATE = ('    SUCCESS = "SUCCESS"\n', '    SUCCESS = "SUCCESS"\n    CANCELLED = "CANCELLED"\n')
ROW = (
    '    TaskEvent("task-cancelled", Code.OTHER, WARNING),\n',
    """    TaskEvent(
        *("task-cancelled", Code.CANCELLED, WARNING, Counter("cancelled", "Runs that were cancelled")),
        awaits=Awaits.ONE_START,
        end=End(State.CANCELLED, rank=1, tie=3),
    ),
""",
)
IN_THE_TABLE = (
    "| task-cancelled changes nothing | received, started, cancelled | STARTED | 0 | 1 |\n",
    "| cancelled while it ran | received, started, cancelled | CANCELLED | 0 | 1 |\n"
    "| cancelled, and succeeded in a second run "
    "| received, started, cancelled, received, started, succeeded | SUCCESS | 0 | 2 |\n",
)
TESTS = (
    *("tests/unit/test_catalogue.py", "tests/unit/test_facts.py", "tests/unit/test_event_limits.py"),
    *("tests/unit/test_line.py", "tests/unit/test_monitoring.py", "tests/unit/test_layers.py"),
    *("tests/integration/test_store_states.py", "tests/integration/test_catalogue.py"),
)


def write(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def test_a_new_state_is_a_row_of_the_catalogue(tmp_path: Path) -> None:
    """Given a copy in which task-cancelled is made a state, in the catalogue and in the table of the states, and the
    documents are written anew, nothing else has changed and the tests of what follows from the types pass.
    """
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "dist", "build", "*.egg-info", "__pycache__"))
    write(copy / "ha_monitor/events/catalogue.py", CODE, STATE, ROW)
    write(copy / "docs/states.md", IN_THE_TABLE)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    run("tests.support.documents")
    changed = {
        str(path.relative_to(copy))
        for path in copy.rglob("*")
        if path.is_file() and path.read_bytes() != (ROOT / path.relative_to(copy)).read_bytes()
    }
    assert changed == {"ha_monitor/events/catalogue.py", "docs/states.md", "docs/monitoring.md"}
    run("pytest", "-q", "-p", "no:cacheprovider", "-k", "not a_new_state_is_a_row", *TESTS)
