"""What the store gets to know of an event, and what makes two deliveries the same event."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import DEFAULT_REDACTED, LogLevel
from ha_monitor.events.catalogue import Code
from ha_monitor.events.decode import Batch, Decoder, Message
from ha_monitor.events.facts import MAX_TRACEBACK, event_id, moment
from ha_monitor.events.model import ID_SIZE
from ha_monitor.events.redact import Redactor
from ha_monitor.events.types import EmissionPolicy, level_of
from tests.unit.builders import TIME, UUID, event, fact_builder
from tests.unit.test_decode import payload


def fact(event_type: str, **changes: Any) -> list[Any]:
    return fact_builder().task_fact(event(event_type, **changes), event_type)


@pytest.mark.parametrize(
    ("event_type", "code"),
    [
        ("task-sent", Code.SENT),
        ("task-received", Code.RECEIVED),
        ("task-started", Code.STARTED),
        ("task-retried", Code.RETRIED),
        ("task-revoked", Code.REVOKED),
        ("task-failed", Code.FAILED),
        ("task-succeeded", Code.SUCCEEDED),
        ("task-custom", Code.OTHER),
        ("task-of-a-later-celery", Code.OTHER),
    ],
)
def test_each_type_has_its_code(event_type: str, code: Code) -> None:
    """Given an event about a task, its fact has the code by which the scripts merge it."""
    assert fact(event_type)[1] is code


def test_a_rejection_finishes_a_task_only_if_it_says_so() -> None:
    """Given task-rejected, only requeue = false ends the task; without the field it is delivered again."""
    without = event("task-rejected")
    del without["requeue"]

    assert fact("task-rejected", requeue=False)[1] is Code.REJECTED
    assert fact("task-rejected", requeue=True)[1] is Code.REQUEUED
    assert fact_builder().task_fact(without, "task-rejected")[1] is Code.REQUEUED


def test_a_definition_is_kept_in_short() -> None:
    """Given task-received, the definition has what the record needs, and arguments are redacted."""
    eta = "2026-11-25T06:00:00+01:00"
    definition, retries = fact("task-received", eta=eta, parent_id="p", retries=2)[5:]

    assert retries == 2
    assert definition == {
        "n": "shop.pay", "a": "(1,)", "k": "{'password': ***}", "r": True, "p": "p", "e": 1795582800 * 1_000_000,
    }  # fmt: skip


def test_a_queue_is_known_from_task_sent_only() -> None:
    """Given task-sent, its queue follows the definition; an empty one counts as absent."""
    assert fact("task-sent", queue="mail")[7] == "mail"
    assert fact("task-sent", queue="")[7] is None
    assert fact("task-sent", queue=7)[7] is None


@pytest.mark.parametrize("name", [None, "", 7, ["x"]])
def test_without_a_usable_name_there_is_no_definition(name: Any) -> None:
    """Given a definition event without a usable name, the rest of it is not taken either."""
    assert fact("task-received", name=name)[5] is None


@pytest.mark.parametrize("retries", [-1, 1 << 31, 1.0, "1", None, True])
def test_an_impossible_number_of_retries_counts_as_none(retries: Any) -> None:
    """Given a retry number that is none, it is taken for 0."""
    assert fact("task-received", retries=retries)[6] == 0


@pytest.mark.parametrize("timestamp", [None, 0, -5, 4e9, float("nan"), "now", True])
def test_an_unusable_time_counts_as_absent(timestamp: Any) -> None:
    """Given a timestamp that cannot be one, the event has time 0 for the scripts and none for people."""
    made = fact("task-started", timestamp=timestamp)

    assert made[2] == 0
    assert "time" not in payload(made[4])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-25T05:54:08+00:00", 1795586048.0),
        ("2026-11-25T05:54:08", 1795586048.0),
        ("2026-11-25T06:54:08+01:00", 1795586048.0),
        ("0001-01-01T00:00:00+14:00", None),
        ("soon", None),
        (1795586048, None),
    ],
)
def test_an_eta_is_read_as_utc_unless_it_names_a_zone(text: Any, seconds: float | None) -> None:
    """Given an eta as Celery writes it, it is the same moment whatever the monitor's own zone is."""
    assert moment(text) == seconds


def test_a_traceback_keeps_its_end_and_no_secret() -> None:
    """Given a traceback that is too long, its end stays; a key whose value crosses the cut stays with its value."""
    long = "frame\n" * 10_000 + "password='" + "x" * MAX_TRACEBACK + "' KeyError: 'last'"
    text = payload(fact("task-failed", traceback=long)[4])["fields"]["traceback"]

    assert len(text) <= MAX_TRACEBACK
    assert text.endswith("password=*** KeyError: 'last'")


@pytest.mark.parametrize(
    ("event_type", "fields"),
    [
        ("task-succeeded", {"runtime": 0.25, "result": "'done'"}),
        ("task-failed", {"exception": "KeyError('x')", "traceback": "Traceback…\nKeyError: 'x'"}),
        ("task-rejected", {"requeue": False}),
        ("task-revoked", {"terminated": False, "expired": True}),
        ("task-started", {}),
        ("task-custom", {"data": {"step": 1, "api_key": "***"}}),
    ],
)
def test_an_announcement_has_the_events_own_fields(event_type: str, fields: dict[str, Any]) -> None:
    """Given an event, what leaves the process has its own fields; those of a custom event are under data."""
    changes = {"step": 1, "api_key": "k"} if event_type == "task-custom" else {}
    made = payload(fact(event_type, **changes)[4])

    assert made.get("fields", {}) == fields
    assert (made["type"], made["worker"], made["task_id"], made["time"]) == (event_type, "celery@host", UUID, TIME)


def test_a_retried_task_is_not_its_own_parent() -> None:
    """Given a task that was retried, which Celery sends with its own id as parent, it has no parent; one that another
    task sent keeps it.
    """
    retried = fact("task-received", parent_id=UUID, retries=1)[5]
    child = fact("task-received", parent_id="another", retries=1)[5]

    assert ("p" in retried, child["p"]) == (False, "another")


@pytest.mark.parametrize("exception", ["None", "Retry(Retry(...), None, 0)", "", None])
def test_a_retry_without_an_exception_has_none(exception: str | None) -> None:
    """Given `self.retry()` without an exception, in any pool, the announcement has none; given one, it has it."""
    retried = payload(fact("task-retried", exception=exception)[4])
    assert "exception" not in retried["fields"]
    for known in ("ValueError('None')", "Retry(Retry(...), ValueError('None'), 0)"):
        assert payload(fact("task-retried", exception=known)[4])["fields"]["exception"] == known


def test_an_event_that_nobody_wants_has_no_payload() -> None:
    """Given a level above the event's, its fact is merged, and nothing of it is put into an outbox."""
    builder = fact_builder(LogLevel.ERROR)

    assert builder.task_fact(event("task-started"), "task-started")[4] is None
    assert builder.task_fact(event("task-failed"), "task-failed")[4] is not None
    assert builder.other_fact(event("deploy", uuid=None), "deploy") is None


def test_a_fact_carries_bytes_as_text_of_messagepack() -> None:
    """Given Redis, whose MessagePack knows no bytes, ids and payloads travel as (invalid) text."""
    packed = msgspec.msgpack.encode(fact("task-started")[:1])

    assert packed[:2] == b"\x91" + bytes((0xA0 | ID_SIZE,))


# --- identity ------------------------------------------------------------------------------


def test_an_event_is_the_same_at_each_delivery() -> None:
    """Given the same body, in whatever order its fields come, the id is the same, here and in every version."""
    body = event("task-started")
    again = dict(reversed(list(body.items())))

    assert event_id(body, TIME) == event_id(again, TIME) == bytes.fromhex("6b0677fb9103ccdccaaceaa6")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostname", "celery@other"),
        ("pid", 4712),
        ("clock", 1),
        ("type", "task-received"),
        ("uuid", "another"),
        ("timestamp", TIME + 0.001),
    ],
)
def test_whatever_tells_two_events_apart_is_in_the_id(field: str, value: Any) -> None:
    """Given two events that differ in one part of their identity, their ids differ."""
    body = event("task-started")

    assert event_id(body, TIME) != event_id(body | {field: value}, TIME)


def test_ids_sort_by_age() -> None:
    """Given a later event, its id is greater, and an event without a time comes first."""
    assert event_id(event("task-started"), None) < event_id(event("task-started"), 1.0)
    assert event_id(event("task-started"), 100.0) < event_id(event("task-started"), 70_000.0)


def test_a_lone_surrogate_in_the_identity_is_no_error() -> None:
    """Given a body with half a character in it, it has an id."""
    assert len(event_id(event("task-started", hostname="\ud800"), TIME)) == ID_SIZE


# --- policy --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_type", "level"),
    [
        ("task-sent", "debug"),
        ("task-received", "debug"),
        ("task-started", "debug"),
        ("worker-heartbeat", "debug"),
        ("task-succeeded", "info"),
        ("task-custom", "info"),
        ("worker-online", "info"),
        ("worker-offline", "info"),
        ("task-retried", "warning"),
        ("task-rejected", "warning"),
        ("task-revoked", "warning"),
        ("task-cancelled", "warning"),
        ("task-failed", "error"),
    ],
)
def test_each_type_has_its_level(event_type: str, level: str) -> None:
    """Given an event type, its line has the documented level, and is written from that level on."""
    assert level_of(event_type).value == level
    for least in LogLevel:
        written = EmissionPolicy(least, ()).writes(event_type)
        assert written is (list(LogLevel).index(LogLevel(level)) >= list(LogLevel).index(least))


def test_a_handler_gets_events_below_the_level_and_they_are_not_written() -> None:
    """Given handlers, the types they are for leave the store although no line is written."""
    policy = EmissionPolicy(LogLevel.ERROR, ["task-started"])

    assert (policy.emits("task-started"), policy.writes("task-started")) == (True, False)
    assert policy.emits("task-succeeded") is False
    assert EmissionPolicy(LogLevel.ERROR, ["*"]).emits("anything") is True


def test_endless_event_types_do_not_fill_the_memory() -> None:
    """Given 4,000 invented types, with and without a task, nothing of them stays in the parts that decode, and the
    types that are known, or have a handler, are treated as before."""
    policy = EmissionPolicy(LogLevel.ERROR, ["wanted"])
    decoder = Decoder(fact_builder(policy=policy), Redactor(DEFAULT_REDACTED, 500))

    def decoded(number: int) -> bool:
        batch = Batch()
        event = {"type": f"invented-{number}", "uuid": "1" if number % 2 else None, "timestamp": TIME}
        decoder.decode([Message(json.dumps(event).encode())], batch)
        return batch.event_count == 1 and not batch.rejected

    assert all(decoded(number) for number in range(10))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    assert all(decoded(number) for number in range(10, 4_000))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < 20_000  # a thousand of the names alone have more
    emitted = {kind: policy.emits(kind) for kind in ("wanted", "task-failed", "task-started", "invented-5", "new")}
    assert emitted == {
        **{"wanted": True, "task-failed": True, "task-started": False},
        **{"invented-5": False, "new": False},
    }


# --- errors ------------------------------------------------------------------------------------

TRACE = 'Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 3, in charge\nshop.Declined: no\n'


@pytest.mark.parametrize("event_type", ["task-failed", "task-retried"])
def test_an_error_has_what_it_has_in_common_with_others(event_type: str) -> None:
    """Given a failure or a retry for an exception, its fact and its event have the fingerprint; with another number in
    the text it is the same, whether or not the event is emitted."""
    one = fact(event_type, exception="Declined('order 1')", traceback=TRACE)
    quiet = fact_builder(policy=EmissionPolicy(LogLevel.ERROR, ()))
    changes: dict[str, Any] = {"exception": "Declined('order 2')", "traceback": TRACE.replace("line 3", "line 5")}
    other = quiet.task_fact(event(event_type, **changes), event_type)

    assert one[6] == "Declined('order 1')"
    assert one[7] == other[7] == [payload(one[4])["fingerprint"], "Declined", "shop/tasks.py:charge"]


@pytest.mark.parametrize("exception", [None, "None", ""])
def test_a_retry_for_no_error_is_none(exception: Any) -> None:
    """Given a retry that the task asked for without an exception, it belongs to no group."""
    found = fact("task-retried", exception=exception, traceback=TRACE)

    assert len(found) == 7
    assert "fingerprint" not in payload(found[4])


def test_a_fingerprint_holds_no_secret() -> None:
    """Given a failure without a traceback whose text has a password in it, its place has it neither."""
    found = fact("task-failed", exception="Denied('password=hunter2x')", traceback=None)

    assert "hunter" not in json.dumps(found[7])
