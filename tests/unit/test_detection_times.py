"""How long it takes from what is wrong to its line, by kind: with the loop, its defaults and a simulated clock. The
table in docs/being-told.md is what `pytest -s` prints here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ha_monitor.config.schema import Workers
from ha_monitor.pipeline.looker import Looker
from ha_monitor.store.memory.incidents import MemoryReader
from tests.unit.builders import event
from tests.unit.loop_bed import OWN_CONFIG, Bed, Instance, live
from tests.unit.test_loop_incidents import LookingAtOnce

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/being-told.md"
LISTENED = 700.0
"""Seconds for which the monitor ran before; for ten minutes after an empty store no error is new."""
AT_MOST = {"worker-lost": 85.0, "queue-late": 370.0, "error-new": 15.0, "failing": 30.0, "retry-storm": 30.0}
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
}


def seconds_until(kind: str) -> float:
    """From what is wrong to the line."""
    bed = Bed()
    threads = LookingAtOnce(bed.clock)
    config = msgspec.structs.replace(OWN_CONFIG, workers=Workers())
    one = Instance(bed, config=config, looker=Looker(MemoryReader(bed.server), threads), threads=threads)

    def beat() -> None:
        names = ["celery@z"] if kind == "worker-lost" and begun is not None else ["celery@a", "celery@z"]
        bed.publish(*(event("worker-heartbeat", at=bed.clock.time(), hostname=name) for name in names))

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


def test_each_kind_is_told_as_soon_as_the_documentation_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Given what is wrong, its line comes within the time that the documentation gives for its kind."""
    took = {kind: seconds_until(kind) for kind in CAUSES}

    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(f"{kind:14}{seconds:>6.0f} s" for kind, seconds in took.items()) + "\n")
    assert {kind: seconds for kind, seconds in took.items() if seconds > AT_MOST[kind]} == {}
    text = DOCUMENT.read_text()
    assert {kind for kind, seconds in took.items() if f"| `{kind}` | {seconds:.0f} s |" not in text} == set()
