"""When an instance may speak for the whole fleet."""

from __future__ import annotations

from ha_monitor.metrics.lease import MAX_INTERVAL, LeaderLease
from tests.unit.builders import TurnedClock

PROMETHEUS = "10.0.0.1 Prometheus"


def lease(*, scraped_every: float | None = 15.0) -> tuple[LeaderLease, TurnedClock]:
    """A lease that is not held, of an instance that is scraped at an interval."""
    clock = TurnedClock()
    one = LeaderLease(clock)
    if scraped_every is not None:
        one.scraped(PROMETHEUS)
        clock.now += scraped_every
        one.scraped(PROMETHEUS)
    return one, clock


def test_it_ends_by_the_own_clock() -> None:
    """Given a leader that freezes, it does not speak any more once its lease is over, without asking anybody."""
    one, clock = lease()
    one.hold(clock.now + 5, followed=False)
    assert one.exports()
    clock.now += 5

    assert not one.holds()
    assert not one.exports()


def test_the_first_leader_speaks_at_once() -> None:
    """Given no leader before, there is no value that could be there twice."""
    one, clock = lease(scraped_every=None)
    one.hold(clock.now + 5, followed=False)

    assert one.exports()


def test_a_follower_keeps_silent_for_one_scrape_interval() -> None:
    """Given a leader that follows another one, what Prometheus has of that one is gone before it speaks."""
    one, clock = lease(scraped_every=15)
    one.hold(clock.now + 100, followed=True)
    clock.now += 14.9
    assert not one.exports()
    clock.now += 0.2
    assert one.exports()
    one.hold(clock.now + 100, followed=False)
    assert one.exports()


def test_the_slowest_client_counts() -> None:
    """Given a second client that scrapes more often, the pause is still that of the first."""
    one, clock = lease(scraped_every=60)
    for _ in range(3):
        one.scraped("10.0.0.2 curl")
        clock.now += 1
    one.hold(clock.now + 100, followed=True)
    clock.now += 59

    assert not one.exports()
    clock.now += 2
    assert one.exports()


def test_without_an_interval_the_pause_is_the_longest() -> None:
    """Given an instance that nobody has scraped twice, it waits as long as any sensible interval."""
    one, clock = lease(scraped_every=None)
    one.hold(clock.now + 1000, followed=True)
    clock.now += MAX_INTERVAL
    assert not one.exports()
    clock.now += 1
    assert one.exports()
