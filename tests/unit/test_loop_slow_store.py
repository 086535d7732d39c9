"""How long the loop stands still with a store each of whose calls takes long, such as one on a slow disk, and with one
that is far away. The figures of docs/faults.md are what this prints.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import BatchSettings
from ha_monitor.pipeline.latency import MAX_IN_FLIGHT
from tests.unit.loop_bed import LEASE, OWN_CONFIG, Bed, Instance
from tests.unit.test_loop import life

BESIDE = 0.1
"""Seconds that the loop takes at most besides one call, as docs/faults.md says."""
SMALL = msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=3, time=0.0))
"""One task of three events fills a batch."""


class SlowStore:
    """The store of an instance, which takes so many seconds for each call, or is so far away."""

    def __init__(self, bed: Bed, one: Instance, seconds: float, *, is_distance: bool) -> None:
        self._clock, self._seconds, self._is_distance = bed.clock, seconds, is_distance
        self._busy_until = bed.clock.now
        self._batches: deque[float] = deque(self._next() for _ in one.pipeline._in_flight._sent)
        """When each batch that is in flight is answered."""
        self._store: Any = one.record.store
        self.calls: list[str] = []
        for name in ("send_apply", "receive_apply", "call"):
            setattr(self._store, name, self._slow(name, getattr(self._store, name)))
        setattr(self._store, "answers_within", lambda within: self._is_there(self._batches[0], within))  # noqa: B010

    def _next(self) -> float:
        begins = self._clock.now if self._is_distance else max(self._busy_until, self._clock.now)
        self._busy_until = begins + self._seconds
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


def longest_standstill(seconds: float, *, in_flight: int = 0, is_distance: bool = False) -> tuple[float, Instance]:
    """Of two minutes in which events go on coming.

    :param seconds: as `SlowStore`.
    :param in_flight: batches that are in flight as the store becomes slow.
    """
    bed = Bed()
    one = Instance(bed, config=SMALL)
    one.cycle(2)
    other = Instance(bed, "2")  # takes over what is left behind, and nothing else
    other.pipeline._store_link.connect()
    if in_flight:
        one.pipeline._in_flight._latency._window.max_in_flight = in_flight
        bed.server.answers = lambda: False
        bed.publish(*[body for number in range(in_flight) for body in life(f"before-{number}")])
        while len(one.pipeline._in_flight) < in_flight:
            one.cycle()
        bed.server.answers = lambda: True
    bed.server.is_slow = not is_distance
    SlowStore(bed, one, seconds, is_distance=is_distance)
    longest, number, until = 0.0, 0, bed.clock.now + 120
    while bed.clock.now < until:
        if len(bed.broker.ready) < 30:
            bed.publish(*life(f"task-{number}"))
            number += 1
        began = bed.clock.now
        one.cycle()
        longest = max(longest, bed.clock.now - began)
        other.pipeline._tick_if_due()
    return longest, one


@pytest.mark.parametrize("in_flight", [0, MAX_IN_FLIGHT], ids=["slow for long", "becomes slow"])
@pytest.mark.parametrize("seconds", [0.1, 0.6, 1.0, 2.0, 2.4])
def test_the_loop_stands_still_for_one_call_of_a_slow_store(
    seconds: float, in_flight: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a store that takes long for each call, for long or from a moment on at which as many batches as ever are
    in flight, the loop goes round after one call, or after as many short ones as take a second. What comes is
    announced, and no lease is lost.
    """
    longest, one = longest_standstill(seconds, in_flight=in_flight)

    with capsys.disabled():
        lost = one.stats.leases_lost
        sys.stdout.write(f"\n{seconds} s a call: {longest:.2f} s, {one.stats.new} events, {lost} leases lost\n")
    assert longest <= max(1.0, seconds + BESIDE)
    assert longest <= LEASE / 2
    assert one.stats.leases_lost == 0
    assert one.stats.new >= 60


@pytest.mark.thorough
@pytest.mark.parametrize("away", [0.1, 0.3])
def test_the_loop_stands_still_for_two_round_trips_of_a_distant_store(
    away: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a store that is far away, the loop goes round after two calls, and the lease is kept."""
    longest, one = longest_standstill(away, is_distance=True)

    with capsys.disabled():
        sys.stdout.write(f"\n{away} s away: {longest:.2f} s, {one.stats.new} events\n")
    assert longest <= 2 * away + BESIDE
    assert one.stats.leases_lost == 0
    assert one.stats.new >= 1000
