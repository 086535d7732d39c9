"""How long the loop stands still with a store each of whose calls takes long, such as one on a slow disk. The figures
of docs/faults.md are what this prints.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import BatchSettings
from ha_monitor.pipeline.handed_over import MOST
from tests.unit.loop_bed import OWN_CONFIG, Bed, Instance
from tests.unit.test_loop import life

MOST_CALLS = 13
"""Calls after which the loop goes round, as docs/faults.md says."""
SMALL = msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=3, time=0.0))
"""One task of three events fills a batch."""


class SlowStore:
    """The store of an instance, which does one call after the other, and takes so many seconds for each."""

    def __init__(self, bed: Bed, one: Instance, seconds: float) -> None:
        self._clock, self._seconds = bed.clock, seconds
        self._busy_until = bed.clock.now
        self._batches: deque[float] = deque(self._next() for _ in one.pipeline._handed._sent)
        """When each batch that is under way is answered."""
        self._store: Any = one.record.store
        self.calls: list[str] = []
        for name in ("send_apply", "receive_apply", "call"):
            setattr(self._store, name, self._slow(name, getattr(self._store, name)))
        setattr(self._store, "answers_within", lambda within: self._is_there(self._batches[0], within))  # noqa: B010

    def _next(self) -> float:
        self._busy_until = max(self._busy_until, self._clock.now) + self._seconds
        return self._busy_until

    def _is_there(self, at: float, within: float) -> bool:
        self._clock.now = max(self._clock.now, min(at, self._clock.now + within))
        return self._clock.now >= at

    def _slow(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def slowly(*args: Any, **options: Any) -> Any:
            if name == "send_apply":
                self._batches.append(self._next())
            elif name == "receive_apply":
                self._wait_until(self._batches.popleft())
            elif args[0] != "apply":
                self.calls.append(args[0])
                self._wait_until(self._next())
            return call(*args, **options)

        return slowly

    def _wait_until(self, at: float) -> None:
        self._clock.now = max(self._clock.now, at)


def longest_standstill(seconds: float, *, under_way: int = 0) -> tuple[float, Instance]:
    """Of two minutes in which events go on coming.

    :param under_way: batches that are under way as the store becomes slow.
    """
    bed = Bed()
    one = Instance(bed, config=SMALL)
    one.cycle(2)
    if under_way:
        one.pipeline._handed._window.most = under_way
        bed.server.answers = lambda: False
        bed.publish(*[body for number in range(under_way) for body in life(f"before-{number}")])
        while len(one.pipeline._handed) < under_way:
            one.cycle()
        bed.server.answers = lambda: True
    SlowStore(bed, one, seconds)
    longest, number, until = 0.0, 0, bed.clock.now + 120
    while bed.clock.now < until:
        if len(bed.broker.ready) < 30:
            bed.publish(*life(f"task-{number}"))
            number += 1
        began = bed.clock.now
        one.cycle()
        longest = max(longest, bed.clock.now - began)
    return longest, one


@pytest.mark.parametrize("under_way", [0, MOST], ids=["slow for long", "becomes slow"])
@pytest.mark.parametrize("seconds", [0.1, 0.6, 1.0, 2.4])
def test_the_loop_stands_still_for_so_many_calls(
    seconds: float, under_way: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a store that takes long for each call, for long or from a moment on at which as many batches as ever are
    under way, the loop goes round after as many calls as the documentation says, and what comes is announced.
    """
    longest, one = longest_standstill(seconds, under_way=under_way)

    with capsys.disabled():
        sys.stdout.write(f"\n{seconds} s a call: {longest:.1f} s, {one.stats.new} events\n")
    assert longest <= MOST_CALLS * seconds + 0.1
    assert one.stats.new > 20
