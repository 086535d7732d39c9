"""Hostile events on their way through a real Redis: no script, line or duty stumbles over what the door lets in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_monitor.config.schema import Metrics
from ha_monitor.outputs.console import console_renderer
from ha_monitor.outputs.line import MAX_LINE, Identity, build_line, encode_line, fields_of
from ha_monitor.store.duties import Duties
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.results import Counting
from tests.integration.storing import NODE, Inside, Instance
from tests.integration.test_watching import WATCHING
from tests.support import corpus
from tests.support.counted import exported
from tests.unit.builders import event
from tests.unit.test_hostile_input import EVENTS, VALUES

COUNTING = Counting("host/1", [0.1, 1.0])
IDENTITY = Identity("shop", "1", "host", 7)
BODIES = corpus.bodies()
UUIDS = st.sampled_from(["a", "b", "\ud800", "\x00", "{x}", "a:b"])
OF_FEW_TASKS = st.builds(lambda body, uuid: body | {"uuid": uuid} if "uuid" in body else body, EVENTS, UUIDS)


@pytest.fixture
def counting(store_url: str) -> Instance:
    return Instance(store_url, counting=COUNTING)


def go_through(instance: Instance, inside: Inside, *bodies: Any) -> list[str]:
    """Merge messages, announce what they bring, do the leader's duties, and read the record; returns the types of the
    events that have a line."""
    inside.redis.flushdb()
    instance.emitted.clear()
    instance.start()
    instance.tick()
    for body in bodies:
        instance.apply(body)
    inside.let_wait_end()
    instance.tick()
    duties = Duties(instance.store)
    for _ in range(2):
        watched = duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))
        if watched is not None:
            instance.announce(watched.items)
        instance.announce(duties.losses(report=True))
    for item in instance.emitted:
        assert len(encode_line(build_line(item, IDENTITY, "now"))) <= MAX_LINE
        assert console_renderer(colors=False)(fields_of(build_line(item, IDENTITY, "now")))
    assert exported([instance.store.counts.read()], Metrics(buckets=COUNTING.buckets)).values
    reader = StoreReader(instance.settings, NODE)
    reader.connect()
    reader.workers(late_after=10)
    reader.close()
    return instance.types


@pytest.mark.parametrize("name", BODIES)
def test_no_body_of_the_corpus_harms_what_comes_after_it(counting: Instance, inside: Inside, name: str) -> None:
    """Given a hostile body before and after a good event, that one is merged and has its line."""
    good = event("task-succeeded", uuid="good")

    types = go_through(counting, inside, BODIES[name], good, BODIES[name])

    assert "task-succeeded" in types
    assert inside.record("good")[0]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.lists(OF_FEW_TASKS | VALUES, max_size=5), max_size=3))
def test_no_events_harm_what_comes_after_them(counting: Instance, inside: Inside, messages: list[list[Any]]) -> None:
    """Given messages of any values among events with any wrong fields, of few tasks, a good event behind them is merged
    and has its line."""
    types = go_through(counting, inside, *messages, event("task-succeeded", uuid="good"))

    assert "task-succeeded" in types
