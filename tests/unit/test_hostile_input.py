"""No input raises out of the decoder, costs its neighbours, or takes memory without a bound."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ha_monitor.broker.envelope import read_envelope
from ha_monitor.config.schema import LogLevel
from ha_monitor.events.decode import MAX_EVENTS, MAX_REJECTED, Batch, Message
from tests.support import corpus
from tests.unit.builders import TASK_TYPES, WORKER_TYPES, decode, event

FIRST, LAST = "first-good-task", "last-good-task"
BESIDE = "c0ffee00-0000-4000-8000-000000000002"
GOOD = event("task-started", uuid=FIRST), event("task-started", uuid=LAST)
BODIES, ENVELOPES = corpus.bodies(), corpus.envelopes()
MOST_MEMORY = 160 * corpus.MEGABYTE
"""For one message of 4 MB."""


def decoded(message: Message | bytes) -> Batch:
    """What becomes of a message between two good ones, which must be untouched."""
    batch = decode(GOOD[0], message, GOOD[1])
    assert len(batch.tasks[FIRST]) == len(batch.tasks[LAST]) == 1
    assert len(batch.rejected) <= MAX_REJECTED
    assert bool(batch.rejected) == bool(batch.rejected_count)
    assert all(len(rejected.reason) <= 500 and len(rejected.sample) <= 500 for rejected in batch.rejected)
    packed = msgspec.msgpack.encode([list(batch.tasks.items()), batch.workers, batch.others])
    assert packed.decode("utf-8", "replace")
    return batch


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails if more memory is taken inside than one message may take."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BODIES)
def test_no_body_harms_its_neighbours(name: str) -> None:
    """Given a hostile body between good messages, nothing is raised and the good ones are merged; so is a good event in
    the same message."""
    batch = decoded(BODIES[name])

    if name.endswith("beside-a-good-event"):
        assert BESIDE in batch.tasks


@pytest.mark.parametrize("name", ENVELOPES)
def test_no_envelope_harms_its_neighbours(name: str) -> None:
    """Given a hostile envelope, nothing is raised, little memory is taken, and a good one is read."""
    with little_memory():
        batch = decoded(read_envelope(ENVELOPES[name]))

    if name.startswith("good"):
        assert (batch.event_count, batch.rejected_count) == (3, 0)
    elif name.startswith("bomb"):
        assert "expands to more than" in batch.rejected[0].reason or "is not supported" in batch.rejected[0].reason \
            or name == "bomb-zlib-twice"  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("name", corpus.LARGE)
def test_megabytes_of_anything_take_little_memory(name: str) -> None:
    """Given a body of megabytes that is made to become much more when it is read, memory is bounded."""
    body = corpus.LARGE[name]()

    with little_memory():
        decoded(body)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("3 MB of zeros", "body of 3145731 bytes holds more than 250000 values"),
        ("100,000 tiny events", "body of 2400001 bytes holds more than 250000 values"),
        ("65,000 invented heartbeats", "message with 65000 events; the maximum is 25000"),
        ("200,000 numbers, which is not too many", "message with 200000 events; the maximum is 25000"),
    ],
)
def test_what_celery_never_sends_is_one_rejection(name: str, reason: str) -> None:
    """Given a message with more in it than Celery puts into one, it is refused as a whole, and as one."""
    batch = decoded(corpus.LARGE[name]())

    assert [rejected.reason for rejected in batch.rejected] == [reason]
    assert (batch.rejected_count, batch.event_count) == (1, 2)


def test_many_rejections_are_counted_and_few_are_kept() -> None:
    """Given thousands of wrong events in a message, all are counted, and a few samples kept."""
    batch = decoded(corpus.LARGE["20,000 wrong events"]())

    assert (batch.rejected_count, len(batch.rejected)) == (20_000, MAX_REJECTED)


def test_a_message_as_large_as_celery_could_make_it_is_read() -> None:
    """Given thousands of events in one message, as after an outage, all of them are merged, commas in texts or not."""
    events = [event("task-failed", uuid=f"task-{n}", traceback=", [{" * 200) for n in range(3000)]

    batch = decoded(json.dumps(events).encode())

    assert (batch.rejected_count, len(batch.tasks)) == (0, 3002)
    assert MAX_EVENTS * len(json.dumps(event("task-started"))) > 4 * corpus.MEGABYTE


# --- generated ---------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["inf", "", "\ud800", "\x1b[2J", 10**30, 9e17, -1, 2**53, 2**64, "x" * 3000])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(sorted({name for kind in (*TASK_TYPES, *WORKER_TYPES) for name in event(kind)} | {"x", ""}))
EVENTS = st.builds(
    lambda kind, changes: event(kind) | changes,
    st.sampled_from([*TASK_TYPES, *WORKER_TYPES, "deploy", "worker-lost"]),
    st.dictionaries(FIELDS, VALUES, max_size=6),
)
SETTINGS = settings(max_examples=75)


@pytest.mark.thorough
@SETTINGS
@given(st.lists(EVENTS | VALUES, max_size=6), st.booleans())
def test_no_event_harms_its_neighbours(events: list[Any], debug: bool) -> None:
    """Given a message of any values among events with any wrong fields, the good events around and in it are merged."""
    body = json.dumps([GOOD[0], *events, GOOD[1]]).encode()

    batch = decode(body, level=LogLevel.DEBUG if debug else LogLevel.INFO)

    assert batch.tasks[FIRST]
    assert batch.tasks[LAST]
    msgspec.msgpack.encode([list(batch.tasks.items()), batch.workers, batch.others])


@SETTINGS
@given(st.binary(max_size=200))
def test_any_bytes_as_a_body(body: bytes) -> None:
    """Given any bytes as a body, nothing is raised."""
    decoded(body)


def mutated(samples: dict[str, bytes]) -> st.SearchStrategy[bytes]:
    """Files of the corpus with bytes changed, cut out, or put in."""

    def change(data: bytes, places: list[tuple[float, int, bytes]]) -> bytes:
        for place, cut, put in places:
            at = int(place * len(data))
            data = data[:at] + put + data[at + cut :]
        return data

    small = [data for data in samples.values() if len(data) < 5000]
    places = st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=4))
    return st.builds(change, st.sampled_from(small), st.lists(places, min_size=1, max_size=4))


@SETTINGS
@given(mutated(BODIES))
def test_any_change_of_a_body(body: bytes) -> None:
    """Given a body of the corpus with a few bytes changed, nothing is raised and its neighbours are merged."""
    decoded(body)


@SETTINGS
@given(mutated(ENVELOPES) | st.binary(max_size=100))
@example(b"")
def test_any_change_of_an_envelope(payload: bytes) -> None:
    """Given an envelope of the corpus with a few bytes changed, nothing is raised and its neighbours are merged."""
    decoded(read_envelope(payload))


@pytest.mark.thorough
@SETTINGS
@given(st.dictionaries(st.sampled_from(["body", "properties", "headers", "content-type", "content-encoding"]), VALUES))
def test_any_parts_of_an_envelope(parts: dict[str, Any]) -> None:
    """Given an envelope whose parts are of any type, nothing is raised and its neighbours are merged."""
    good = msgspec.json.decode(ENVELOPES["good"])

    decoded(read_envelope(json.dumps(good | parts).encode()))


@SETTINGS
@given(st.text(max_size=12), st.text(max_size=12), st.sampled_from(["", "gzip", "bzip2", "xz", "zstd", "\x00"]))
def test_any_content_type_encoding_and_compression(kind: str, encoding: str, compression: str) -> None:
    """Given any properties of a message, nothing is raised and its neighbours are merged."""
    decoded(Message(b"{}", kind, encoding, compression))
    decoded(Message(b"{}", "application/json", encoding, compression))
