"""The catalogue of events, and all that follows from it or is held to it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.catalogue import FIELDS, OWN_EVENTS, TASK_EVENTS, WORKER_EVENTS, Code, State
from ha_monitor.events.types import CELERY_FIELDS, END_TYPES, ENDS, LEVELS, RESULT_TYPES, TASK_CODES
from ha_monitor.outputs.line import EventLine
from ha_monitor.store.record import Facts, record_of, state_of
from ha_monitor.store.scripts import event_constants, read_scripts
from tests.support import documents
from tests.support.sources import nodes_of
from tests.unit.builders import decode, event
from tests.unit.test_decode import payload
from tests.unit.test_line import problems, written

ROOT = Path(__file__).resolve().parents[2]
GIVEN = {
    "task-sent": 1, "task-received": 2, "task-started": 3, "task-retried": 4, "task-rejected": 7, "task-revoked": 8,
    "task-failed": 9, "task-succeeded": 10,
}  # fmt: skip
"""Codes that records and counts in Redis hold."""


def test_codes_that_were_given_stay() -> None:
    """Given records and counts from before, their codes mean what they meant; 6 stays free."""
    assert {name: int(TASK_CODES[name]) for name in GIVEN} == GIVEN
    assert Code.REQUEUED == 5
    assert 6 not in {int(code) for code in Code}


def test_each_code_has_a_row() -> None:
    """Given the codes, each but that of custom events has one row and a counter."""
    rows = Counter(row.code for row in TASK_EVENTS)
    assert [code for code in Code if code is not Code.OTHER and rows[code] != 1] == []
    assert [row.type for row in TASK_EVENTS if row.code is not Code.OTHER and row.counter is None] == []


def test_of_two_ends_it_is_certain_which_counts() -> None:
    """Given the ends, no two of them have rank and tie in common, and each gives a state of its own."""
    assert len({(end.rank, end.tie) for end in ENDS.values()}) == len(ENDS)
    assert len({end.state for end in ENDS.values()}) == len(ENDS)


def test_the_state_of_each_end() -> None:
    """Given a record that an event finished, its state is the catalogue's; one of a later version is UNKNOWN."""
    for code, end in ENDS.items():
        assert state_of(Facts(finish=code)) is end.state
        runtime = record_of("t", Facts(finish=code, started=1_000_000, finished=3_000_000)).runtime
        assert runtime == (2.0 if end.has_runtime else None)
    assert state_of(Facts(finish=max(Code) + 1)) is State.UNKNOWN
    assert record_of("t", Facts(finish=max(Code) + 1, finished=1_000_000)).runtime is None


def test_results_stand_for_ends() -> None:
    """Given Celery's names for results that are final, each stands for an event that ends a task."""
    from celery.states import READY_STATES

    assert set(RESULT_TYPES) == READY_STATES
    assert set(RESULT_TYPES.values()) <= END_TYPES


def test_the_scripts_know_the_codes() -> None:
    """Given the catalogue, each script that merges events has its codes once, and no file has its own."""
    constants = event_constants()
    for code in Code:
        assert (code.name in constants.splitlines()[0]) is (code is not Code.OTHER)
    for script in read_scripts().values():
        assert script.source.count(constants) == ("function merge_fact" in script.source), script.name
    own = re.compile(rf"^\s*local\b[^=]*\b({'|'.join(code.name for code in Code)})\b[^=]*=", re.MULTILINE)
    assert [path.name for path in ROOT.glob("ha_monitor/store/lua/**/*.lua") if own.search(path.read_text())] == []


# --- the line ----------------------------------------------------------------------------------


def test_each_field_is_in_the_line() -> None:
    """Given the fields that events have of their own, each is described, and the line has them in the same order."""
    names = [field.in_line or field.name for field in FIELDS]
    own = {name for fields in CELERY_FIELDS.values() for name in fields}
    own |= {name for row in OWN_EVENTS for name in row.fields or ()}

    assert [name for name in EventLine.__struct_fields__ if name in names] == names
    assert own <= {field.name for field in FIELDS}
    assert {field.name for field in FIELDS} - own == {"source", "data"}


@pytest.mark.parametrize("kind", [*TASK_CODES, *(row.type for row in WORKER_EVENTS)])
def test_the_line_of_each_type(kind: str) -> None:
    """Given an event of a type with all of its fields, its line has its level and is as the schema says."""
    batch = decode(event(kind))
    fact = next(iter(batch.tasks.values()))[0] if batch.tasks else batch.workers[0]
    kept = payload(fact[4])
    fields = kept.get("fields", {})

    line = written(kind, Facts(name="shop.pay"), fields=fields, task_id=kept.get("task_id"))

    assert problems(line) == []
    assert line["level"] == LEVELS[kind].value
    assert set(fields) <= set(CELERY_FIELDS[kind])
    assert kept["type"] == kind


# --- what is written about it ------------------------------------------------------------------


def test_documents_and_schema_say_what_the_catalogue_says() -> None:
    """Given the catalogue, what docs and schema say of the types is the same to the letter."""
    assert list(documents.outdated()) == [], "run `make documents`"


def test_each_field_is_documented() -> None:
    """Given the fields that a line may have, docs/log.md has a row with each."""
    text = (ROOT / "docs/log.md").read_text(encoding="utf-8")

    assert [
        name for name in EventLine.__struct_fields__ if not re.search(rf"^\| [^|]*`{name}`", text, re.MULTILINE)
    ] == []


def test_the_table_of_the_program_s_own_lines() -> None:
    """Given docs/operations.md, its table has all that the program says in its own name, with the level."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = re.split(r"\n\| (?:line|event) \| level \|", text)[1].split("\n\n")[0]
    found = {}
    for row in table.splitlines()[2:]:
        names, levels = (cell.strip().split(", ") for cell in row.split("|")[1:3])
        assert len(levels) in (1, len(names)), row
        for name, level in zip(names, levels * len(names), strict=False):
            found[name.strip("`")] = level

    assert found == {row.name: row.level.value for row in OWN_EVENTS}


@pytest.mark.thorough
def test_what_is_logged_has_the_level_of_the_catalogue() -> None:
    """Given the sources, each line that is logged by its name has the level that the catalogue says."""
    levels = {row.name: row.level.value for row in OWN_EVENTS}
    methods = {level.value for level in LogLevel}
    found = set()
    for path in (ROOT / "ha_monitor").rglob("*.py"):
        for node in nodes_of(path):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and part.value in levels and node.func.attr in methods:
                    assert levels[part.value] == node.func.attr, f"{path.name}:{node.lineno}"
                    found.add(part.value)

    assert len(found) > 20


def test_each_of_the_program_s_own_lines_is_there_once() -> None:
    """Given the program's own lines, no two have the same name."""
    assert len({row.name for row in OWN_EVENTS}) == len(OWN_EVENTS)
