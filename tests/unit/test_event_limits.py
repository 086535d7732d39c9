"""What one text and one number of an event may be: whatever a sender writes, little of it is kept, and only what it can
be."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ha_monitor.events.decode import Batch
from ha_monitor.events.facts import MAX_COUNT, MAX_SECONDS
from ha_monitor.events.model import Event
from ha_monitor.events.types import OWN_NAMES, TASK_CODES, WORKER_TYPES
from ha_monitor.outputs.line import MAX_LINE, Identity, build_line, encode_line, iso_time
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.record import Facts
from tests.support.sources import nodes_of
from tests.unit.builders import TASK_TYPES, TIME, UUID, decode, event
from tests.unit.builders import WORKER_TYPES as WORKERS
from tests.unit.test_decode import payload
from tests.unit.test_line import VALIDATOR

PACKAGE = Path(__file__).resolve().parents[2] / "ha_monitor"
IDENTITY = Identity("shop", "1", "host", 4711)
TEXTS = {
    *("hostname", "name", "root_id", "parent_id", "queue", "exchange", "routing_key", "exception", "traceback"),
    *("args", "kwargs", "result", "sw_ident", "sw_ver", "sw_sys", "signum", "expires", "eta", "note"),
}
MOST_KEPT = 96 * 1024
"""Bytes of an event in the store: a traceback of four-byte characters and all the rest."""


def events(text: str) -> list[dict[str, Any]]:
    """Events of all types with one text in all of their places that need not name a worker."""
    changes: dict[str, Any] = dict.fromkeys(TEXTS, text)
    made = [event(kind, **changes) for kind in (*TASK_TYPES, "task-custom")]
    made += [event(kind, **(changes | {"hostname": "celery@host"})) for kind in WORKERS]
    named: dict[str, Any] = {text[:50_000]: text}
    return [*made, event("deploy", uuid=None, **changes), event("deploy", uuid=None, **named)]


def payloads(batch: Batch) -> list[dict[str, Any]]:
    found = [fact[4] for facts in batch.tasks.values() for fact in facts]
    return [payload(raw) for raw in (*found, *(fact[4] for fact in batch.workers), *(fact[1] for fact in batch.others))]


@pytest.mark.parametrize("character", ["x", "\x01", "\N{PILE OF POO}", '"', "\\"])
def test_no_text_of_an_event_is_without_a_limit(character: str) -> None:
    """Given events with 300,000 characters in their texts, of each a little is kept, and the line is below its
    limit and as the schema says, with the worst characters for JSON."""
    for body in events(character * (300_000 // len(TEXTS))):
        batch = decode(body)
        assert len(msgspec.msgpack.encode([batch.tasks, batch.workers, batch.others])) < MOST_KEPT, body["type"]

        (kept,) = payloads(batch)
        definition = next(
            (part for facts in batch.tasks.values() for fact in facts for part in fact if type(part) is dict), None
        )
        facts = msgspec.convert({"n": character * 255} | (definition or {}) | {"q": character * 255}, Facts)
        line = build_line(
            OutboxItem(1, Entry(0, msgspec.convert(kept, Event), facts, False), False), IDENTITY, iso_time(TIME)
        )
        encoded = encode_line(line)
        assert len(encoded) <= MAX_LINE, body["type"]
        assert [error.message for error in VALIDATOR.iter_errors(json.loads(encoded))] == []


@pytest.mark.parametrize("field", ["uuid", "type"])
def test_what_names_an_event_is_refused_if_it_is_too_long(field: str) -> None:
    """Given a name of a task or an event of 500,000 characters, it cannot be cut without becoming another's."""
    changes: dict[str, Any] = {field: "x" * 500_000}
    batch = decode(event("task-started", **changes))

    assert batch.rejected_count == 1
    assert len(batch.rejected[0].reason) < 250


def test_a_worker_s_name_is_refused_and_a_sender_s_is_cut() -> None:
    """Given a long hostname, a heartbeat cannot be a worker's; the event of a task counts without its end."""
    name = "w" * 500_000

    assert decode(event("worker-heartbeat", hostname=name)).rejected_count == 1
    assert payloads(decode(event("task-started", hostname=name)))[0]["worker"] == "w" * 255
    assert decode(event("task-started", hostname=name)).tasks[UUID][0][3] == "w" * 255


def test_the_same_event_is_the_same_though_its_texts_are_cut() -> None:
    """Given two events that differ only behind what is kept, they are two."""
    one, two = (decode(event("task-started", hostname="w" * 300 + end)).tasks[UUID][0] for end in "ab")

    assert one[0] != two[0]


def test_custom_data_is_kept_as_far_as_a_line_holds_it() -> None:
    """Given a custom event with fields of megabytes, what is kept is the beginning of their text."""
    many: dict[str, Any] = {f"key{number}": "x" * 100 for number in range(20_000)}

    (kept,) = payloads(decode(event("deploy", uuid=None, **many)))
    data = kept["fields"]["data"]

    assert data.startswith('{"key0":"xxx')
    assert MAX_LINE < len(data) < MAX_LINE + 10


@pytest.mark.parametrize("depth", [5, 200, 900])
def test_custom_data_may_be_nested_as_deep_as_anybody_likes(depth: int) -> None:
    """Given a custom event with deeply nested data, it is announced."""
    text = json.dumps(event("deploy", uuid=None, data="@")).replace('"@"', '{"a":' * depth + "1" + "}" * depth)

    batch = decode(text.encode())

    assert batch.rejected == []
    assert payloads(batch)[0]["type"] == "deploy"


# --- numbers -----------------------------------------------------------------------------------

WRONG = ["inf", "7", float("nan"), float("inf"), -1, -0.5, True, False, 9e17, 900_000_000_000_000_000, 2**64, 10**400]
WRONG_COUNTS = [*WRONG, 1.5, MAX_COUNT]


def heartbeat(**changes: Any) -> dict[str, Any]:
    """The fields that are kept of a heartbeat."""
    body = json.dumps(event("worker-heartbeat", **changes)).encode()
    (fact,) = decode(body).workers
    fields: dict[str, Any] = fact[5]
    assert payload(fact[4])["fields"] == fields
    return fields


@pytest.mark.parametrize("wrong", WRONG_COUNTS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("field", ["processed", "active", "pid"])
def test_a_count_is_a_count_or_absent(field: str, wrong: Any) -> None:
    """Given a heartbeat with a number of tasks that cannot be one, the rest of it counts, and the number is absent."""
    assert heartbeat(**{field: wrong}).keys() == heartbeat().keys() - {field}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: str(value)[:20])
def test_an_interval_is_a_number_of_seconds_or_absent(wrong: Any) -> None:
    """Given a heartbeat with an interval that cannot be one, it is absent; so are such numbers in the load."""
    assert "freq" not in heartbeat(freq=wrong)
    assert heartbeat(loadavg=[wrong, 0.5, wrong])["loadavg"] == [0.5]


def test_right_numbers_are_kept() -> None:
    """Given a heartbeat as Celery sends it, or with the greatest numbers there may be, all are kept."""
    fields = heartbeat(processed=MAX_COUNT - 1, active=0, pid=2**32 - 1, freq=2, loadavg=[0, 1.5, 64])

    assert {name: fields[name] for name in ("processed", "active", "pid", "freq", "loadavg")} == {
        "processed": MAX_COUNT - 1,
        "active": 0,
        "pid": 2**32 - 1,
        "freq": 2.0,
        "loadavg": [0.0, 1.5, 64.0],
    }


@pytest.mark.parametrize("wrong", [*WRONG, 2e11, MAX_SECONDS], ids=lambda value: str(value)[:20])
def test_a_run_time_is_one_or_absent(wrong: Any) -> None:
    """Given a run time that cannot be one, the task succeeded all the same, and the number is in neither place."""
    (fact,) = decode(json.dumps(event("task-succeeded", runtime=wrong)).encode()).tasks[UUID]

    assert fact[5] is None
    assert "runtime" not in payload(fact[4])["fields"]


def test_numbers_are_exact_in_lua() -> None:
    """Given the greatest numbers that pass, Lua's numbers hold them exactly, seconds as microseconds."""
    assert MAX_COUNT < 2**53
    assert int(MAX_SECONDS * 1e6) < 2**53


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OWN_NAMES))
def test_no_application_can_speak_in_the_program_s_name(name: str) -> None:
    """Given custom events, of a task and of none, with the name of a line of the program's own, they are announced
    under a name that shows whose they are."""
    batch = decode(event(name), event(name, uuid=None))

    assert batch.rejected == []
    assert [kept["type"] for kept in payloads(batch)] == [f"custom:{name}"] * 2


def test_other_custom_events_keep_their_names() -> None:
    """Given a custom event with a name of its own, that is its name."""
    assert payloads(decode(event("deploy", uuid=None)))[0]["type"] == "deploy"
    assert OWN_NAMES.isdisjoint(TASK_CODES)
    assert OWN_NAMES.isdisjoint(WORKER_TYPES)


def test_the_list_of_the_program_s_own_names_is_complete() -> None:
    """Given the sources, every name that is logged, or announced by a script, is in the list, and no other."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in nodes_of(path):
            if isinstance(node, ast.Constant) and node.value in OWN_NAMES and path.name != "catalogue.py":
                found.add(node.value)
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            on = ast.unparse(node.func.value).rpartition(".")[2]
            if node.func.attr in ("debug", "info", "warning", "error") and on in ("logger", "_logger"):
                names = [str(part.value) for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
                assert set(names) <= OWN_NAMES, f"{path.name}:{node.lineno} logs {names}"
                found |= set(names)
    for path in PACKAGE.rglob("*.lua"):
        text = path.read_text(encoding="utf-8")
        found |= {name for name in OWN_NAMES if f"'{name}'" in text or f'"{name}"' in text}

    assert found == OWN_NAMES
