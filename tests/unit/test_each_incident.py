"""Each kind of incident through its whole life, and what no incident comes of, with the loop and a simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from ha_monitor.errors import BrokerUnavailable, StoreUnavailable
from ha_monitor.events.decode import Message
from ha_monitor.incidents.catalogue import CATALOGUE, KINDS
from ha_monitor.store.incidents import Phase
from ha_monitor.store.memory.server import MemoryServer
from tests.unit.builders import event
from tests.unit.incident_world import CAUSES, SETTLED, World, begin, opened, resolved, world_of


def test_each_kind_can_be_brought_about() -> None:
    """Given the catalogue, there is a cause for each kind, and for no other one."""
    assert list(CAUSES) == [kind.name for kind in CATALOGUE]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", CAUSES)
def test_an_incident_begins_grows_ends_and_is_the_same_if_it_comes_again_soon(kind: str) -> None:
    """Given what is wrong, one line says so, with the severity of its kind; what comes on top changes its sentence and
    has no line; one line says that it is over; and if it is so again within five minutes, it has the same id."""
    world, cause = world_of(kind), CAUSES[kind]
    begin(world, kind)
    world.until(lambda: opened(world, kind))
    first = world.incident(kind)
    assert first.phase is Phase.FIRING
    assert first.severity is KINDS[kind].severity

    if cause.grow is not None:
        cause.grow(world)
        world.until(lambda: world.incident(kind).summary != first.summary)
        assert world.incident(kind).id == first.id
    assert len(opened(world, kind)) == 1

    cause.end(world)
    world.until(lambda: resolved(world, kind))
    assert world.incident(kind).phase is Phase.RESOLVED

    if cause.again is None:
        world.pass_by(600)
        assert len(opened(world, kind)) == 1
        return
    cause.again(world)
    world.until(lambda: len(opened(world, kind)) > 1)
    lines = world.lines_of(kind)
    assert [line["event"] for line in sorted(lines, key=lambda line: line["event_time"])] == [
        *("incident-opened", "incident-resolved", "incident-opened")
    ]
    assert {line["incident"] for line in lines} == {first.id}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", CAUSES)
def test_a_leader_that_dies_in_the_middle_loses_and_doubles_nothing(kind: str) -> None:
    """Given a leader that dies when it has written that something is wrong and not yet said it, the next leader says
    it, once; what else is told is that an instance is missing."""
    world = world_of(kind, size=2)
    begin(world, kind)
    world.until(lambda: any(one.kind == kind for one in world.bed.server.incidents.values()))
    leader = next(one for one in world.living if one.telemetry.is_leader())
    world.kill(leader)
    world.until(lambda: opened(world, kind))
    world.pass_by(120)

    assert len(opened(world, kind)) == len({line["key"] for line in opened(world, kind)})
    assert resolved(world, kind) == []


def restart_the_monitor(world: World) -> None:
    for one in list(world.living):
        world.kill(one)
    world.pass_by(600)
    world.living = [world.add("1"), world.add("2")]


def kill_the_leader(world: World) -> None:
    leader = next(one for one in world.living if one.telemetry.is_leader())
    world.kill(leader)
    world.pass_by(20)
    world.living.append(world.add(leader.identity.instance))


def take_the_broker_away(world: World) -> None:
    world.bed.broker_trouble.away = BrokerUnavailable("away")
    world.pass_by(300)
    world.bed.broker_trouble.away = None


def take_the_store_away(world: World) -> None:
    world.bed.store_trouble.away = StoreUnavailable("away")
    world.pass_by(300)
    world.bed.store_trouble.away = None


def freeze_the_monitor(world: World) -> None:
    """So that events of five minutes wait in the queue."""
    living, world.living = world.living, []
    world.pass_by(300)
    world.living = living


def merge_slowly(world: World) -> None:
    """For ten minutes, so that events wait in the queue for longer and longer."""
    for one in world.living:
        one.source.receive = partial(one_a_second, world, one.source.receive)  # type: ignore[method-assign]
    for _ in range(10):
        traffic(world)
    for one in world.living:
        del one.source.receive


def one_a_second(
    world: World, receive: Callable[[int, float], list[Message]], limit: int, timeout: float
) -> list[Message]:
    messages = receive(min(limit, 1), timeout)
    if messages:
        world.bed.clock.sleep(1.0)
    return messages


def restart_all_workers(world: World) -> None:
    """One after the other, each away for longer than one that says nothing may be."""
    names = list(world.heard)
    for number, name in enumerate(names):
        world.bed.publish(event("worker-offline", at=world.bed.clock.time(), hostname=name))
        world.heard.remove(name)
        world.pass_by(90)
        world.bed.publish(event("worker-online", at=world.bed.clock.time(), hostname=name, pid=5000 + number))
        world.heard.append(name)


def put_the_clock_back(world: World) -> None:
    world.bed.clock.put_back = 3600


def empty_the_store(world: World) -> None:
    world.bed.server.go_back(MemoryServer(world.bed.clock).state())


SITUATIONS: dict[Callable[[World], None], set[tuple[str, str]]] = {
    restart_the_monitor: set(),
    kill_the_leader: set(),
    take_the_broker_away: set(),
    take_the_store_away: set(),
    freeze_the_monitor: set(),
    merge_slowly: {("monitor", "lag")},
    restart_all_workers: set(),
    put_the_clock_back: set(),
    empty_the_store: {("store-went-back", "")},
}
"""What each may be told of as."""


@pytest.mark.thorough
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_fleet_that_does_well_has_no_incident_of_any_kind(situation: Callable[[World], None]) -> None:
    """Given a fleet with all that the rules look at and nothing wrong in it, in which tasks fail as they did before,
    wait in a queue for a while, and run on schedules, nothing is told of but what has happened to the monitor itself:
    neither then nor in the quarter of an hour after."""
    world = World(2)
    traffic(world)  # in the first ten minutes, in which no error is new
    world.pass_by(SETTLED)
    traffic(world)
    situation(world)
    for _ in range(15):
        traffic(world)

    assert {(line["kind"], line["key"]) for line in world.lines_of()} == SITUATIONS[situation]


def traffic(world: World) -> None:
    """A minute in which some tasks succeed, some fail, and there is always one that waits in a queue, and one that
    runs, for half a minute each.
    """
    world.run("task-received", "task-started", "task-succeeded", count=12)
    world.run("task-received", "task-started", "task-failed")
    for _ in range(2):
        (waits,) = world.run("task-sent")
        (runs,) = world.run("task-received", "task-started")
        world.pass_by(30)
        world.end(runs, waits)
