"""How long it takes from what is wrong to its line, by kind: with the loop, its defaults and a simulated clock. The
table in docs/being-told.md is what `pytest -s` prints here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ha_monitor.broker.survey import Survey, TaskQueue
from ha_monitor.config.schema import Workers
from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.incidents.rules import OF_SCHEDULES
from ha_monitor.store.memory.server import MemoryServer
from tests.unit.builders import event
from tests.unit.loop_bed import OWN_CONFIG, Bed, Instance, live
from tests.unit.test_loop_incidents import beat as heard
from tests.unit.test_loop_incidents import instance, with_stuck_tasks
from tests.unit.test_loop_schedules import SETTLED, Fleet, learned_fleet

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/being-told.md"
LISTENED = 700.0
"""Seconds for which the monitor ran before; for ten minutes after an empty store no error is new."""
DEFAULTS = msgspec.structs.replace(OWN_CONFIG, workers=Workers())
AT_MOST = {"worker-lost": 85.0, "queue-late": 370.0, "error-new": 15.0, "failing": 30.0, "retry-storm": 30.0}
AT_MOST |= {"store-went-back": 15.0, "no-consumer": 135.0, "poison-task": 85.0, "monitor": 80.0}
AT_MOST |= {"schedule-missed": 50.0, "beat-silent": 50.0, "schedule-doubled": 140.0, "schedule-failed": 20.0}
AT_MOST |= {"learned-missed": 690.0}
"""Seconds, by kind: somewhat more than docs/being-told.md has, as looks may come a moment later."""


def silence(_bed: Bed) -> Iterator[object]:
    return iter(())


def one_sent(bed: Bed) -> Iterator[object]:
    yield event("task-sent", at=bed.clock.time(), uuid="sent", queue="mail")


def one_failed(bed: Bed) -> Iterator[object]:
    yield from runs(bed, "failed", 1)


def many_failed(bed: Bed) -> Iterator[object]:
    yield from runs(bed, "succeeded", 18)
    yield from runs(bed, "failed", 2)


def many_retried(bed: Bed) -> Iterator[object]:
    yield from runs(bed, "retried", 50)


def all_lost(bed: Bed) -> Iterator[object]:
    bed.server.go_back(MemoryServer(bed.clock).state())
    return iter(())


def runs(bed: Bed, end: str, count: int) -> Iterator[object]:
    for number in range(count):
        for kind in ("received", "started", end):
            yield event(f"task-{kind}", at=bed.clock.time(), uuid=f"{end}{number}", hostname="celery@a")


CAUSES: dict[str, Callable[[Bed], Iterator[object]]] = {
    "worker-lost": silence,
    "queue-late": one_sent,
    "error-new": one_failed,
    "failing": many_failed,
    "retry-storm": many_retried,
    "store-went-back": all_lost,
    "no-consumer": silence,
}


def seconds_until(kind: str) -> float:
    """From what is wrong to the line."""
    bed = Bed()
    one = instance(bed, config=DEFAULTS)

    def beat() -> None:
        names = ["celery@z"] if kind == "worker-lost" and begun is not None else ["celery@a", "celery@z"]
        bed.publish(*(event("worker-heartbeat", at=bed.clock.time(), hostname=name) for name in names))
        if kind == "no-consumer" and begun is not None:
            one.telemetry.surveyed(Survey([TaskQueue("mail", 1, None, 0, 0)], {}))

    begun: float | None = None
    until = bed.clock.now + LISTENED
    while bed.clock.now < until:
        beat()
        live(5, one)
    begun = bed.clock.now
    bed.publish(*CAUSES[kind](bed))
    while not any(line.get("kind") == kind for line in one.said("incident-opened")):
        assert bed.clock.now - begun < 1000, [line["kind"] for line in one.said("incident-opened")]
        live(2, one)
        beat()
    return float(bed.clock.now - begun)


def seconds_of_schedule(kind: str) -> float:
    """From when it should have run, or ran twice, or failed, to the line."""
    if kind == "learned-missed":
        fleet = learned_fleet()
    else:
        fleet = Fleet(Bed(), tasks=("a.one", "a.two") if kind == "beat-silent" else ("a.one",))
    one, clock = fleet.instance(config=DEFAULTS), fleet.bed.clock
    fleet.live(SETTLED + fleet.every, one)
    begun = min(known.next_due or clock.time() for known in fleet.judged.values())
    if kind == "schedule-doubled":
        fleet.beats = 2
    elif kind == "schedule-failed":
        fleet.state = "task-failed"
    else:
        fleet.beats = 0
    while not opened(one, kind, clock.time() - begun):
        fleet.live(2, one)
    return float(clock.time() - begun)


def seconds_until_poison() -> float:
    """From the last sign of the second worker under which a task ran to the line."""
    bed = Bed()
    one = with_stuck_tasks(bed, DEFAULTS)
    begun = bed.clock.now
    for worker in ("celery@a", "celery@b"):
        for kind in ("task-received", "task-started"):
            bed.publish(event(kind, at=bed.clock.time(), uuid="t0", hostname=worker))
        for _ in range(10):
            heard(bed, worker, "celery@z")
            one.live(2)
        begun = bed.clock.now
        while bed.clock.now < begun + 90 and not opened(one, "poison-task", bed.clock.now - begun):
            heard(bed, "celery@z")
            one.live(2)
    assert opened(one, "poison-task", 0)
    return float(bed.clock.now - begun)


def seconds_until_an_instance_is_missed() -> float:
    """From the death of an instance to the line."""
    bed = Bed()
    one, two = (instance(bed, name, DEFAULTS) for name in "12")
    for _ in range(40):
        heard(bed, "celery@z")
        live(5, one, two)
    begun = bed.clock.now
    while not opened(one, "monitor", bed.clock.now - begun):
        heard(bed, "celery@z")
        live(2, one)
    return float(bed.clock.now - begun)


def opened(one: Instance, kind: str, after: float) -> bool:
    kinds = [line.get("kind") for line in one.said("incident-opened")]
    assert after < 1000, kinds
    return kind in kinds


def test_each_kind_is_told_as_soon_as_the_documentation_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Given what is wrong, its line comes within the time that the documentation gives for its kind."""
    took = {kind: seconds_until(kind) for kind in CAUSES}
    took |= {kind: seconds_of_schedule(kind) for kind in OF_SCHEDULES}
    took |= {"poison-task": seconds_until_poison(), "monitor": seconds_until_an_instance_is_missed()}

    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(f"{kind:14}{seconds:>6.0f} s" for kind, seconds in took.items()) + "\n")
    assert {kind: seconds for kind, seconds in took.items() if seconds > AT_MOST[kind]} == {}
    text = DOCUMENT.read_text()
    assert {kind for kind, seconds in took.items() if f"| `{kind}` | {seconds:.0f} s |" not in text} == set()


def test_the_documentation_has_a_time_for_each_kind() -> None:
    """Given the catalogue, each kind has one row in the table, in its order, and no other one is there."""
    text = DOCUMENT.read_text()
    table = text[text.index("**How long it takes.**") : text.index("## Once")]

    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert rows == [kind.name for kind in CATALOGUE]
