"""What is kept of errors and runs of a recorded stream is what its events say."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ha_monitor.events.decode import Message
from ha_monitor.events.error_group import group_id
from ha_monitor.events.fingerprint import fingerprint_of
from ha_monitor.events.histogram import bucket_of
from tests.integration.storing import Inside, Instance
from tests.integration.test_store_contract import RedisBed
from tests.support.error_contract import groups as groups_of
from tests.support.recording import read_stream, replicate
from tests.unit.builders import decode


@pytest.mark.parametrize("seed", [None, 1], ids=["in order", "in any order"])
def test_groups_and_statistics_are_those_of_the_events(store_url: str, seed: int | None) -> None:
    """Given real events, in order or in any, dealt out to three instances in small batches, and a part of them twice:
    each group has as many failures and retries, each name as many runs and run times as the events have."""
    bed, inside = RedisBed(store_url), Inside(store_url)
    now = inside.now()
    messages = list(replicate(read_stream("small"), 1, start=now - 3600))
    bodies = [event for message in messages for event in message.events]
    names = {body["uuid"]: body["name"] for body in bodies if "name" in body}
    failures: Counter[str] = Counter()
    runs: Counter[tuple[str, str]] = Counter()
    runtimes: Counter[tuple[str, int]] = Counter()
    for body in bodies:
        kind, name = body["type"], names.get(body.get("uuid", ""), "")
        if kind in ("task-failed", "task-retried", "task-succeeded"):
            runs[name, kind] += 1
        if kind == "task-failed":
            digest = fingerprint_of(body["exception"], body["traceback"]).digest
            failures[group_id(name, digest)] += 1
        if kind == "task-succeeded" and body["runtime"] is not None:
            runtimes[name, bucket_of(body["runtime"])] += 1

    chance = random.Random(seed)
    todo = [*messages, *chance.sample(messages, len(messages) // 3)] if seed else messages
    if seed:
        chance.shuffle(todo)
    instances = [Instance(store_url, name_wait=600.0).start() for _ in range(3)]
    for number, start in enumerate(range(0, len(todo), 40)):
        part = todo[start : start + 40]
        instances[number % 3].apply_batch(decode(*(Message(message.body.encode()) for message in part)))

    groups = groups_of(bed)
    assert {group.id: group.failures for group in groups if group.failures} == failures
    assert {group.id: sum(group.by_hour) for group in groups if group.failures} == failures
    assert sum(group.retries for group in groups) == sum(n for (_, kind), n in runs.items() if kind == "task-retried")
    found = bed.queries().statistics(sorted({name for name, _ in runs}), now - 7200, now + 3600)
    for one in found:
        assert one.succeeded == runs[one.name, "task-succeeded"]
        assert one.failed == runs[one.name, "task-failed"]
        assert one.retried == runs[one.name, "task-retried"]
        assert one.runtime.counts == {bucket: n for (name, bucket), n in runtimes.items() if name == one.name}
