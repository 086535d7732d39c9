"""The line of an event: valid by the schema, small enough for the journal, readable at a terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.error_group import group_id
from ha_monitor.events.model import Event
from ha_monitor.outputs.console import console_renderer
from ha_monitor.outputs.line import MAX_LINE, EventLine, Identity, build_line, encode_line, fields_of, iso_time
from ha_monitor.outputs.log import Logger, Threshold, make_logger
from ha_monitor.outputs.output import Line
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.record import Facts
from tests.unit.builders import TIME, UUID, TurnedClock

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "ha_monitor/schema/line.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
IDENTITY = Identity("shop", "1", "host", 4711)
EVENT_ID = "0123456789abcdef01234567"


def item(
    event_type: str = "task-succeeded",
    facts: Facts | None = None,
    *,
    fields: dict[str, Any] | None = None,
    task_id: str | None = UUID,
    time: float | None = TIME,
    incomplete: bool = False,
    recovered: bool = False,
    fingerprint: str | None = None,
) -> OutboxItem:
    event = Event(event_type, EVENT_ID, "celery@host", time, task_id, fields or {}, fingerprint)
    return OutboxItem(7, Entry(0, event, facts or Facts(name="shop.pay"), incomplete), recovered)


def build(*args: Any, **kwargs: Any) -> EventLine:
    return build_line(item(*args, **kwargs), IDENTITY, iso_time(TIME + 1))


def written(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return json.loads(encode_line(build(*args, **kwargs)))


def problems(line: dict[str, Any]) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(line)]


def test_the_line_of_an_error_names_its_group() -> None:
    """Given a failure, its line has the group of its task's errors of that kind; the same for the next one of them."""
    kinds = [("shop.pay", "v1:a"), ("shop.pay", "v1:a"), ("shop.pay", "v1:b"), ("mail", "v1:a")]
    lines = [
        written("task-failed", Facts(name=name), fields={"exception": "KeyError('x')"}, fingerprint=digest)
        for name, digest in kinds
    ]
    groups = [line["error_group"] for line in lines]

    assert [problem for line in lines for problem in problems(line)] == []
    assert len(set(groups)) == 3
    assert groups[:2] == [group_id("shop.pay", "v1:a")] * 2


def test_the_schema_is_a_schema_and_describes_every_field() -> None:
    """Given the schema, it is valid, and each field of a line is in it, in the same order, with a description."""
    jsonschema_rs.meta.validate(SCHEMA)
    definitions = SCHEMA["$defs"]
    properties = definitions["event_line"]["properties"]

    assert list(properties) == list(EventLine.__struct_fields__)
    for name, described in properties.items():
        assert len((described if "description" in described else definitions[name])["description"]) > 10


def test_a_line_in_full() -> None:
    """Given everything that can be known of a success, the line has it under the documented names."""
    facts = Facts(
        name="shop.pay",
        arguments="(1,)",
        keyword_arguments="{}",
        root_id=True,
        parent_id="p",
        sent=int(TIME * 1e6) - 3_000_000,
        queue="mail",
        started=int(TIME * 1e6) - 1_000_000,
        started_count=2,
        retries=1,
        queue_wait=2_000_000,
    )

    line = written(facts=facts, fields={"runtime": 0.25, "result": "'done'"}, recovered=True)

    assert line == {
        "timestamp": "2026-11-25T05:54:04.500000Z",
        "level": "info",
        "event": "task-succeeded",
        "node_id": "shop",
        "instance": "1",
        "host": "host",
        "pid": 4711,
        "event_id": EVENT_ID,
        "event_time": "2026-11-25T05:54:03.500000Z",
        "worker": "celery@host",
        "task_id": UUID,
        "task_name": "shop.pay",
        "queue": "mail",
        "retries": 1,
        "runtime": 0.25,
        "queue_time": 2.0,
        "root_id": UUID,
        "parent_id": "p",
        "args": "(1,)",
        "kwargs": "{}",
        "result": "'done'",
        "recovered": True,
    }
    assert problems(line) == []


def test_what_is_not_known_is_left_out() -> None:
    """Given the least that can be known, the line has null where a reader may count on the field, and no more."""
    line = written("task-failed", Facts(), fields={"exception": ""}, time=None, incomplete=True)

    assert (line["event_time"], line["task_name"], line["incomplete"]) == (None, None, True)
    assert "queue" not in line
    assert "runtime" not in line
    assert problems(line) == []
    assert problems(written("task-retried", Facts(name="shop.pay"), fields={})) == []


def test_the_workers_pid_does_not_hide_the_monitors() -> None:
    """Given a worker's event, its pid is worker_pid; the line's pid is the monitor's."""
    line = written("worker-heartbeat", fields={"pid": 99, "active": 1, "loadavg": [0.5]}, task_id=None)

    assert (line["pid"], line["worker_pid"], line["level"]) == (4711, 99, "debug")
    assert "task_name" not in line
    assert problems(line) == []


def test_a_runtime_that_the_worker_did_not_measure_is_computed_for_an_end_only() -> None:
    """Given a start and an end, a failure's runtime is their distance; a retry, which is no end, has none."""
    facts = Facts(name="x", started=1_000_000, finished=3_500_000, finish=9)

    assert written("task-failed", facts, fields={"exception": ""}, time=3.5)["runtime"] == 2.5
    assert "runtime" not in written("task-retried", facts, fields={"exception": ""})


def test_fields_that_a_line_does_not_know_cannot_get_into_it() -> None:
    """Given an entry that another version wrote with a field unknown here, the line stays valid."""
    assert problems(written(fields={"level": "x", "colour": "red", "runtime": 1.0})) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"colour": "red"}, "Additional properties are not allowed ('colour' was unexpected)"),
        ({"task_name": None}, '"incomplete" is a required property'),
        ({"event_id": "7"}, '"7" does not match "^[0-9a-f]{24}$"'),
        ({"level": "loud"}, '"loud" is not one of "debug", "info" or 2 other candidates'),
        ({"event": "task-rejected"}, '"requeue" is a required property'),
        ({"runtime": -1}, "-1 is less than the minimum of 0"),
        ({"incomplete": False}, "true was expected"),
    ],
)
def test_the_schema_is_strict(change: dict[str, Any], problem: str) -> None:
    """Given a line with something wrong in it, the schema says so."""
    assert problems(written() | change) == [problem]


def own_lines() -> tuple[list[Line], Logger]:
    """A logger of the program's own lines, for which `hunter2` is a secret, and what it has written."""
    lines: list[Line] = []

    class Collected:
        def write(self, new: list[Line]) -> None:
            lines.extend(new)

    logger = make_logger(
        output=Collected(),
        identity=IDENTITY,
        clock=TurnedClock(),
        threshold=Threshold(LogLevel.INFO),
        scrub=lambda text: text.replace("hunter2", "***"),
    )
    return lines, logger


def test_the_schema_takes_the_programs_own_lines_with_any_fields() -> None:
    """Given a line that the program's logger wrote, it needs the envelope and may have more."""
    lines, logger = own_lines()
    logger.warning("store-unavailable", reason="hunter2 was refused: \ud83d", retry_in=0.5)
    logger.debug("not-written")

    (line,) = [json.loads(line.text) for line in lines]
    assert line["reason"] == "*** was refused: ?"
    assert (line["level"], line["event"], line["instance"]) == ("warning", "store-unavailable", "1")
    assert problems(line) == []
    assert problems({key: value for key, value in line.items() if key != "host"}) == ['"host" is a required property']


def test_each_text_in_an_own_line_can_be_written_and_is_masked() -> None:
    """Given names of files that are not UTF-8, and a configured password, in a list or a mapping, when the program
    writes a line of its own, then the line has all of it, with question marks and `***`."""
    lines, logger = own_lines()
    file = os.fsdecode(b"/etc/caf\xe9.py")
    logger.warning("restart-required", changed=["notify", file], by={file: (1, None, ["hunter2", 0.5])}, count=2)

    written = json.loads(lines[0].text)
    assert written["changed"] == ["notify", "/etc/caf?.py"]
    assert written["by"] == {"/etc/caf?.py": [1, None, ["***", 0.5]]}
    assert written["count"] == 2


# --- the length ----------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["x", "\N{PILE OF POO}", "\x00", '"', "\N{CJK UNIFIED IDEOGRAPH-4E2D}"])
def test_a_line_fits_into_the_journal_whatever_is_in_it(character: str) -> None:
    """Given long texts of any characters in every field that can be long, the line is valid JSON of at most 48 KB."""
    text = character * 65_000
    facts = Facts(name=character * 255, arguments=text, keyword_arguments=text, exception=text, queue=character * 255)
    fields = {"exception": text, "traceback": text, "result": text, "data": {"a": [text] * 3}}

    encoded = encode_line(build("task-failed", facts, fields=fields))

    line = json.loads(encoded)
    assert len(encoded) <= MAX_LINE
    assert problems(line) == []
    assert line["task_name"] == character * 255


def test_only_what_must_be_cut_is_cut() -> None:
    """Given one field that is too long, it alone is cut and named; a traceback keeps its end."""
    traceback = "frame\n" * 10_000 + "KeyError: 'last'"

    line = written("task-failed", fields={"exception": "KeyError('last')", "traceback": traceback})

    assert line["shortened"] == ["traceback"]
    assert line["traceback"] == "…" + traceback[-4096:]
    assert line["exception"] == "KeyError('last')"


def test_a_line_that_fits_is_not_touched() -> None:
    """Given a line just below the limit, nothing is cut."""
    text = "x" * (MAX_LINE - 600)

    line = written(fields={"result": text})

    assert line["result"] == text
    assert "shortened" not in line


def test_long_data_becomes_text() -> None:
    """Given the fields of a custom event that are too long, their JSON is cut and stays a text."""
    line = written("task-custom", fields={"data": {"text": "x" * 60_000}})

    assert line["data"] == '{"text":"' + "x" * 4087 + "…"
    assert line["shortened"] == ["data"]
    assert problems(line) == []


# --- for people ----------------------------------------------------------------------------


def test_a_line_at_a_terminal() -> None:
    """Given the console format, a line has time, level, event and the fields for people, with short numbers."""
    text = console_renderer(colors=False)(fields_of(build(fields={"runtime": 0.123456}))).decode()

    assert text == (
        "05:54:04.500 [info     ] task-succeeded   instance=1 task_name=shop.pay "
        f"task_id={UUID} worker=celery@host runtime=0.123 retries=0"
    )


def test_a_traceback_at_a_terminal_is_indented_below_its_line() -> None:
    """Given a failure, its exception and traceback follow in lines of their own."""
    line = build("task-failed", fields={"exception": "KeyError('x')", "traceback": "Traceback:\n  frame\nKeyError\n"})
    text = console_renderer(colors=False)(fields_of(line)).decode()

    assert text.endswith("retries=0\n    KeyError('x')\n    Traceback:\n      frame\n    KeyError")


def test_colours_are_only_for_terminals() -> None:
    """Given colours off, no escape sequence is in the text."""
    assert b"\x1b" in console_renderer(colors=True)(fields_of(build()))
    assert b"\x1b" not in console_renderer(colors=False)(fields_of(build()))
