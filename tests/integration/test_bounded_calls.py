"""One call of a script does only so much, whatever it was given: the calls that follow do the rest, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha1
from typing import Any

import pytest

from ha_monitor.config.schema import Stuck
from ha_monitor.events.decode import Batch
from ha_monitor.pipeline.slices import split
from ha_monitor.store.results import Counting
from ha_monitor.store.scripts import read_scripts
from tests.integration.storing import Inside, Instance
from tests.unit.builders import TIME, decode, event

Patience = Callable[[float], None]
LIVES = 150
KINDS = ("task-sent", "task-received", "task-started", "task-succeeded")
LONG = 240 * "x"


@pytest.fixture
def time_of_a_call(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Sets how many ms a merge may work: with 0, it ends wherever it looks at its clock."""

    def set_time(milliseconds: float) -> None:
        scripts = read_scripts()
        source = scripts["apply"].source
        changed = source.replace("work = 6,", f"work = {milliseconds:.0f},")
        assert changed != source
        digest = sha1(changed.encode(), usedforsecurity=False).hexdigest()
        scripts["apply"] = scripts["apply"]._replace(source=changed, sha=digest)
        monkeypatch.setattr("ha_monitor.store.store.read_scripts", lambda: scripts)

    return set_time


def counter(url: str) -> Instance:
    counting = Counting("host/1", 100_000, [0.1, 1.0], per_worker=True)
    return Instance(url, counting=counting, stuck=Stuck(), name_wait=600.0).start()


def lives(count: int, **changes: Any) -> list[dict[str, Any]]:
    bodies = []
    for number in range(count):
        own = {key: value.format(number) for key, value in changes.items()}
        bodies += [event(kind, at=TIME + n / 10, uuid=f"t{number}", **own) for n, kind in enumerate(KINDS)]
    return bodies


def calls_for(one: Instance, batch: Batch) -> list[int]:
    """How many tasks each call merges, until all are."""
    calls: list[int] = []
    while not calls or batch.tasks:
        one.store.send_apply(batch)
        applied = one.store.receive_apply()
        one.announce(applied.items)
        calls.append(applied.merged)
        if applied.merged == len(batch.tasks):
            break
        _, batch = split(batch, applied.merged)
    return calls


def counted(one: Instance) -> Counter[str]:
    """Events counted, by their code or what else stands first in the field."""
    found: Counter[str] = Counter()
    for count in one.store.counts():
        found[count.kind] += count.number
    return found


def test_a_call_whose_time_is_over_leaves_the_rest_to_the_next(
    store_url: str, inside: Inside, time_of_a_call: Patience
) -> None:
    """Given a merge whose time is over at once, each call merges some tasks, and says how many; the calls together
    merge, announce and count everything once, and what belongs to no task comes with the last of them.
    """
    time_of_a_call(0)
    one = counter(store_url)
    others = [event("worker-heartbeat"), event("custom", uuid=None)]

    calls = calls_for(one, decode(lives(LIVES), others))

    assert sum(calls) == LIVES
    assert 1 < len(calls) < LIVES
    assert min(calls) > 0
    announced = Counter(item.entry.event.id for item in one.emitted)
    assert (len(announced), set(announced.values())) == (len(KINDS) * LIVES + len(others), {1})
    assert set(one.types[-len(others) :]) == {"worker-heartbeat", "custom"}
    found = counted(one)
    assert [found[code] for code in ("1", "2", "3", "10")] == [LIVES] * 4
    assert inside.redis.zcard(inside.keys.workers) == 1
    assert one.apply(*lives(LIVES)).new == 0


def test_a_call_ends_sooner_where_there_is_more_to_write(store_url: str, time_of_a_call: Patience) -> None:
    """Given all the time that there is, one call merges lives of one worker, and several are needed for as many
    of which each has its own long names, though these, too, are announced and counted once.
    """
    time_of_a_call(1e9)
    usual, wide = counter(store_url), counter(store_url)
    assert calls_for(usual, decode(lives(LIVES))) == [LIVES]

    names = {"name": "n{}" + LONG, "queue": "q{}" + LONG, "hostname": "w{}@" + LONG}
    again = [{**body, "uuid": "wide-" + body["uuid"]} for body in lives(LIVES, **names)]
    calls = calls_for(wide, decode(again))

    assert sum(calls) == LIVES
    assert len(calls) >= 3
    assert len({item.entry.event.id for item in wide.emitted}) == len(wide.emitted) == len(KINDS) * LIVES


def test_a_tick_ends_sooner_where_there_is_more_to_write(store_url: str, inside: Inside) -> None:
    """Given very many events that wait to be counted, each under labels of its own, one tick counts some of them, and
    the ticks that follow the others, each once.
    """
    one = counter(store_url)
    tasks, starts = 60, 32
    for number in range(tasks):
        hosts = (f"{number}.{start}@{LONG}" for start in range(starts))
        batch = decode([event("task-started", uuid=f"t{number}", hostname=host) for host in hosts])
        for fact in batch.tasks[f"t{number}"]:
            fact[4] = None  # nobody wants its line
        one.apply_batch(batch)
    inside.let_wait_end()
    left: list[int] = []
    while not left or left[-1]:
        one.tick()
        left.append(inside.redis.zcard(inside.keys.waiting))

    assert tasks > left[0] > 0
    assert counted(one)["3"] == tasks * starts
