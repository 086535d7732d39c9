"""From the bytes of a message to facts: nothing that a message contains stops the monitor."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.body import MAX_BODY
from ha_monitor.events.decode import MAX_EVENTS, Batch, Message
from ha_monitor.events.serializers import refused_serializer
from tests.unit.builders import TASK_TYPES, TIME, UUID, WORKER_TYPES, decode, event


def reason(batch: Batch) -> str:
    (rejected,) = batch.rejected
    return rejected.reason


def fact_count(batch: Batch) -> int:
    return sum(map(len, batch.tasks.values())) + len(batch.workers) + len(batch.others)


def encodable(batch: Batch) -> bool:
    """Whether the store can send it: an error here would come again with every redelivery."""
    return bool(msgspec.msgpack.encode([list(batch.tasks.items()), batch.workers, batch.others]))


def test_messages_become_facts_by_what_they_are_about() -> None:
    """Given a list, a worker's event and a custom one without a task, each fact is where the store looks for it."""
    batch = decode(
        [event("task-received"), event("task-started", at=TIME + 1)],
        event("worker-online"),
        event("deploy-finished", uuid=None, version="1.2"),
    )

    assert list(batch.tasks) == [UUID]
    assert len(batch.tasks[UUID]) == 2
    assert [fact[3] for fact in batch.workers] == ["worker-online"]
    assert len(batch.others) == 1
    assert (batch.message_count, batch.event_count, batch.newest, batch.rejected) == (3, 4, TIME + 1, [])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "body is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "body is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"type": "task-sent"} x', "body is not JSON: Extra data: line 1 column 23 (char 22)"),
        (b"null", "an event must be an object, not NoneType"),
        (b'"task-sent"', "an event must be an object, not str"),
        (b"7", "an event must be an object, not int"),
        (b"{}", "an event must have a type"),
        (b'{"type": null}', "an event must have a type"),
        (b'{"type": ""}', "an event must have a type"),
        (b'{"type": ["task-sent"]}', "an event must have a type"),
        (json.dumps({"type": "x" * 256}).encode(), "an event must have a type"),
        (b'{"type": "task-sent"}', "task-sent has no uuid"),
        (b'{"type": "task-sent", "uuid": null}', "task-sent has no uuid"),
        (b'{"type": "task-sent", "uuid": ""}', "task-sent has no usable uuid"),
        (b'{"type": "task-sent", "uuid": [7]}', "task-sent has no usable uuid"),
        (json.dumps({"type": "task-sent", "uuid": "x" * 4097}).encode(), "task-sent has no usable uuid"),
        (b'{"type": "worker-online"}', "worker-online has no usable hostname"),
        (b'{"type": "worker-online", "hostname": 7}', "worker-online has no usable hostname"),
    ],
)
def test_what_is_no_event_is_rejected_with_the_reason(body: bytes, why: str) -> None:
    """Given a body that is no event, it is listed as rejected with the reason, and nothing else comes of it."""
    batch = decode(body)

    assert reason(batch) == why
    assert fact_count(batch) == 0


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Message(b"\x80\x04.", "application/x-python-serialize"),
         "serialized with pickle, which is not supported: set event_serializer = \"json\" in the application"),
        (Message(b"{}", ""), "content type '' is neither JSON nor MessagePack"),
        (Message(b"{}", "application/json", "utf-16"), "content encoding 'utf-16' is not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_not_json_is_rejected_unread(message: Message, why: str) -> None:
    """Given a message of another content type or encoding, it is rejected."""
    assert reason(decode(message)) == why


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "binary", "us-ascii", ""])
def test_names_of_the_encoding_that_mean_utf8_are_accepted(encoding: str) -> None:
    """Given the names that kombu and other clients write for JSON's encoding, the message is read."""
    assert fact_count(decode(Message(json.dumps(event("task-started")).encode(), "application/json", encoding))) == 1


def test_the_sample_of_a_pickle_shows_nothing_of_it() -> None:
    """Given a pickled body with a password in it, the sample holds no byte of it."""
    message = Message(b"\x80\x04\x8c\x08password\x94\x8c\x07hunter2\x94.", "application/x-python-serialize")

    assert decode(message).rejected[0].sample == f"{len(message.body)} bytes"


def test_a_body_that_is_too_large_is_rejected_at_once() -> None:
    """Given a body of 10 MB that is no JSON, it is rejected without being parsed, and the sample is short."""
    batch = decode(b'{"type": "' + b"x" * 10_000_000)

    assert reason(batch) == f"body of 10000010 bytes is larger than {MAX_BODY}"
    assert len(batch.rejected[0].sample) <= 500


def test_the_largest_body_with_a_secret_in_it_takes_a_moment_only() -> None:
    """Given a text of megabytes without a space and with a key to be redacted in it, decoding takes about as long as
    without the key."""

    def cost(key: str, secret: str) -> float:
        body = event("task-failed", exception=key + "x" * 3_000_000, traceback="y" * 900_000 + secret)
        began = time.thread_time()
        assert fact_count(decode(body)) == 1
        return time.thread_time() - began

    plain = min(cost("tokin", "passwird=1") for _ in range(3))
    assert min(cost("token", "password=1") for _ in range(3)) < 10 * plain


HOSTILE = [
    "{(\"password\", \"'=\\\"\\'\\[=\n\t\\\\''\"authorization: (('token', ('password='",
    "('password', '-p://-u)://u:mysql{cookiexauthorization: password='a:\"'] = \\\\'?",
    "password=x ",
]


def failures(exception: str, traceback: str) -> bytes:
    """A message of as many failures with these texts as are read of one."""
    one = len(json.dumps(event("task-failed", exception=exception, traceback=traceback))) + 30
    count = min(MAX_EVENTS, (MAX_BODY - 10) // one)
    changes = {"exception": exception, "traceback": traceback}
    return json.dumps([event("task-failed", uuid=f"u{i}", at=TIME + i, **changes) for i in range(count)]).encode()


@pytest.mark.thorough
def test_no_message_costs_much_more_than_one_of_many_small_events() -> None:
    """Given messages of 4 MiB of texts made to take the time of who looks for secrets, large ones and small ones, the
    dearest takes a few times as long as one of as many small events as fit: too little for a lease to be lost."""

    def cost(body: bytes) -> float:
        began = time.thread_time()
        assert decode(body, arguments=False, results=False).rejected_count == 0
        return time.thread_time() - began

    ordinary = failures("KeyError: 5", "")
    bodies = [failures(piece * (200 // len(piece)), "") for piece in HOSTILE]
    bodies += [failures(piece * (8000 // len(piece)), piece * (32_600 // len(piece))) for piece in HOSTILE]
    dearest = max(bodies, key=cost)

    assert statistics.median(cost(dearest) / cost(ordinary) for _ in range(3)) < 8  # it was a hundred


def test_a_message_is_searched_for_secrets_until_its_effort_is_spent_and_the_next_one_again() -> None:
    """Given a message of far more secrets than tasks have, none stays; in the next one, of as many failures as Celery
    sends at once, what stands beside secrets stays."""
    traceback = "Traceback (most recent call last):\n" + '  File "/a.py", line 3, in pay\n    pay(1)\n' * 100
    traceback += "ConnectionError: redis://:hunter2@cache refused token=hunter2 for bob\n"
    ordinary = [event("task-failed", uuid=f"o{i}", traceback=traceback) for i in range(24)]
    hostile = failures("password=hunter2 of bob " * 30, "")

    tasks = decode(hostile, ordinary).tasks
    shown = {uuid: payload(fact[4])["fields"] for uuid, (fact,) in tasks.items()}

    assert "hunter2" not in repr(shown)
    assert shown["u0"]["exception"].startswith("password=*** of bob password=***")
    assert shown["u3000"]["exception"] == "***"
    assert all("redis://:***@cache refused token=*** for bob" in shown[f"o{i}"]["traceback"] for i in range(24))


@pytest.mark.parametrize("depth", [200, 100_000])
def test_deep_nesting_does_not_overflow_the_stack(depth: int) -> None:
    """Given a body nested deeper than the interpreter can recurse, it is either read or rejected."""
    body = b'{"type": "custom", "x": ' + b"[" * depth + b"]" * depth + b"}"

    batch = decode(body)

    assert fact_count(batch) + len(batch.rejected) == 1
    assert encodable(batch)


def test_one_bad_event_does_not_cost_its_neighbours() -> None:
    """Given a list with bad events among good ones, the good ones are merged and the bad ones listed."""
    batch = decode([event("task-received"), {"type": 5}, "no", event("task-started"), {"type": "task-sent"}])

    assert len(batch.tasks[UUID]) == 2
    assert [rejected.reason for rejected in batch.rejected] == [
        "an event must have a type",
        "an event must be an object, not str",
        "task-sent has no uuid",
    ]
    assert batch.event_count == 5


def test_what_python_writes_as_json_is_read() -> None:
    """Given NaN, Infinity and a lone surrogate, which are no JSON but which Celery may send, the event counts."""
    body = json.dumps(event("task-succeeded", runtime=float("nan"), result="\ud800!")).encode()
    other = json.dumps(event("worker-heartbeat", loadavg=[float("inf"), 1.0])).encode()

    batch = decode(body, other)

    (fact,) = batch.tasks[UUID]
    assert fact[5:] == [None]
    assert payload(fact[4])["fields"] == {"result": "?!"}
    assert batch.workers[0][5]["loadavg"] == [1.0]
    assert encodable(batch)


def test_bytes_that_are_no_utf8_do_not_cost_the_event() -> None:
    """Given a byte in a text that is not UTF-8, the event counts."""
    body = json.dumps(event("task-failed", exception="caf@")).encode().replace(b"@", b"\xe9")

    assert payload(decode(body).tasks[UUID][0][4])["fields"]["exception"] == "caf\N{REPLACEMENT CHARACTER}"


WRONG = [
    None,
    "",
    "text",
    0,
    -1,
    1.5,
    10**30,
    1e300,
    True,
    [],
    [1],
    {},
    {"a": [None]},
    "\x00",
    "x" * 5000,
    float("nan"),
]
REQUIRED = {"type", "uuid"}


def wrong_bodies() -> list[Any]:
    cases = []
    for event_type in (*TASK_TYPES, *WORKER_TYPES, "task-custom"):
        for field in event(event_type):
            if field in REQUIRED or (field == "hostname" and event_type in WORKER_TYPES):
                continue
            cases.append(pytest.param(event_type, field, id=f"{event_type}-{field}"))
    return cases


@pytest.mark.parametrize("level", [LogLevel.DEBUG, LogLevel.ERROR])
@pytest.mark.parametrize(("event_type", "field"), wrong_bodies())
def test_any_field_may_be_missing_or_wrong(event_type: str, field: str, level: LogLevel) -> None:
    """Given an event of any type in which one field is missing, null, or of any other type or size, it still counts,
    and the store can send what was made of it.
    """
    without = event(event_type)
    del without[field]
    bodies = [without, *(event(event_type) | {field: value} for value in WRONG)]

    for body in bodies:
        batch = decode(body, level=level)
        assert batch.rejected == [], body.get(field, "missing")
        assert fact_count(batch) == 1
        assert encodable(batch)


@pytest.mark.parametrize("field", ["loadavg", "active", "sw_ident"])
def test_a_worker_cannot_fill_the_store(field: str) -> None:
    """Given a heartbeat with an endless field, only a few bytes of it are kept."""
    values: tuple[Any, ...] = (list(range(100_000)), "x" * 100_000, {"a": "x" * 100_000})
    for value in values:
        batch = decode(event("worker-heartbeat", **{field: value}))
        assert len(msgspec.msgpack.encode(batch.workers)) < 1500


def test_without_arguments_and_results_nothing_of_them_is_kept() -> None:
    """Given log.arguments and log.results off, no part of args, kwargs or result is in the facts or the samples."""
    bodies = [
        event("task-sent", args="('swordfish',)", kwargs="{'a': 'swordfish'}"),
        event("task-received", args="('swordfish',)", kwargs="{'a': 'swordfish'}"),
        event("task-succeeded", result="'swordfish'"),
        event("task-sent", uuid=None, args="('swordfish',)", kwargs="{'a': 'swordfish'}"),
        event("task-succeeded", uuid=None, result="'swordfish'"),
        json.dumps(event("task-sent", kwargs="{'a': 'swordfish'}", result=["swordfish"])).encode()[:-1],
    ]

    batch = decode(*bodies, arguments=False, results=False)

    kept = msgspec.msgpack.encode([batch.tasks, batch.workers, batch.others])
    samples = "".join(rejected.sample for rejected in batch.rejected)
    assert fact_count(batch) == 3
    assert len(batch.rejected) == 3
    assert b"swordfish" not in kept
    assert "swordfish" not in samples


def test_samples_of_rejected_events_are_redacted() -> None:
    """Given a rejected event with a password in its keyword arguments, the sample does not show it."""
    batch = decode({"uuid": [1], "type": "task-sent", "kwargs": "{'password': 'hunter2'}"}, b'{"password": "hunter2"')

    assert [rejected.sample for rejected in batch.rejected] == [
        "{'uuid': [1], 'type': 'task-sent', 'kwargs': \"{'password': ***}\"}",
        '{"password": ***',
    ]


def payload(raw: msgspec.Raw) -> dict[str, Any]:
    """The event inside a fact's payload: a MessagePack text of MessagePack bytes."""
    data = bytes(raw)
    inner = data[1:] if data[0] >> 5 == 0b101 else data[5:]
    return msgspec.msgpack.decode(inner)


@pytest.mark.parametrize("said", ["not supported", "not read"])
def test_a_refused_serializer_is_recognised(said: str) -> None:
    """Given a rejection that this or an earlier version recorded, the serializer is found in it."""
    assert refused_serializer(f"serialized with pickle, which is {said}: set event_serializer") == "pickle"
