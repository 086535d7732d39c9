"""Ids of tasks that are no texts, or too long: one text stands for each, wherever it comes from."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from kombu.utils.json import dumps

from ha_monitor.events.catalogue import Code
from ha_monitor.events.task_id import MAX_HASHED_ID, MAX_ID, text_of_id
from tests.unit.builders import decode, event
from tests.unit.test_decode import payload

AS_TEXT = "8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90"
IDS = [
    (UUID(AS_TEXT), AS_TEXT),
    (AS_TEXT, AS_TEXT),
    (42, "42"),
    (0, "0"),
    (-1.5, "-1.5"),
    (b"order-7", "order-7"),
    ("x" * MAX_ID, "x" * MAX_ID),
]
NONE: list[Any] = [True, "", [], {}, {"hex": AS_TEXT}, float("nan"), float("inf"), "x" * (MAX_HASHED_ID + 1)]
NO_UUIDS: list[Any] = ["no uuid", None, {}, {"hex": 5}, []]
NONE += [{"__type__": "uuid", "__value__": value} for value in NO_UUIDS]


def sent_by_kombu(value: Any) -> Any:
    return json.loads(dumps(value))


@pytest.mark.parametrize(("value", "text"), IDS)
def test_an_id_is_known_by_its_text(value: Any, text: str) -> None:
    """Given an id of any type that kombu writes, it is the text that a person would look for."""
    assert text_of_id(sent_by_kombu(value)) == text


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_id_is_rejected(value: Any) -> None:
    """Given what is no id, the event is rejected, and as a parent or root it counts as missing."""
    assert text_of_id(value) is None

    batch = decode(json.dumps([event("task-started", uuid="x") | {"uuid": value}]).encode())
    assert [rejected.reason for rejected in batch.rejected] == ["task-started has no usable uuid"]

    (fact,) = decode(event("task-received", root_id=value, parent_id=value)).tasks[AS_TEXT]
    assert fact[5].keys() & {"p"} == set() or value == ""


def test_a_long_id_keeps_its_beginning_and_stays_apart_from_others() -> None:
    """Given ids that differ behind the limit only, their texts are two, of limited length; each is always the same."""
    one, two = text_of_id("order-" * 100 + "1"), text_of_id("order-" * 100 + "2")

    assert one != two
    assert one == text_of_id("order-" * 100 + "1")
    assert one is not None
    assert one.startswith("order-order-")
    assert len(one) == MAX_ID
    assert len(text_of_id("\U0001f600" * MAX_HASHED_ID) or "") == MAX_ID


@pytest.mark.parametrize("value", [UUID(AS_TEXT), 42, "order-" * 100])
def test_one_text_is_everywhere(value: Any) -> None:
    """Given an id that is no usual text in a task's own id, its root and its parent, the same text stands for it in
    all, and the event id is the same as if the text had been sent."""
    text = text_of_id(sent_by_kombu(value))
    assert text is not None
    own, child = (
        event("task-received", uuid=uuid) | {"uuid": uuid, "root_id": value, "parent_id": parent}
        for uuid, parent in ((value, None), ("child", value))
    )
    batch = decode(dumps([own, child]).encode())
    as_text = decode(dumps([own | {"uuid": text}, child]).encode())

    assert set(batch.tasks) == {text, "child"}
    (fact,), (of_child,) = batch.tasks[text], batch.tasks["child"]
    assert payload(fact[4])["task_id"] == text
    assert fact[5]["r"] is True
    assert (of_child[5]["r"], of_child[5]["p"]) == (text, text)
    assert fact[0] == as_text.tasks[text][0][0]


def test_only_a_made_id_is_marked() -> None:
    """Given an id that workers know by another name, the definition says so, and no other fact does."""
    made, usual = (
        decode(dumps([event(kind, uuid=None) | {"uuid": uuid} for kind in ("task-received", "task-started")]).encode())
        for uuid in (UUID(AS_TEXT), AS_TEXT)
    )

    assert [fact[1] for fact in made.tasks[AS_TEXT]] == [Code.RECEIVED, Code.STARTED]
    assert made.tasks[AS_TEXT][0][5].pop("o") is True
    assert made.tasks[AS_TEXT] == usual.tasks[AS_TEXT]
