"""What an instance knows of its lease, and how far its outbox is."""

from __future__ import annotations

from ha_monitor.store.own_state import Lease, OutboxProgress
from tests.unit.builders import TurnedClock

DURATION = 10.0


def test_a_lease_ends_by_the_own_clock_counted_from_the_question() -> None:
    """Given a reply that was slow, the lease ends `duration` seconds after the question, unless it is renewed."""
    clock = TurnedClock()
    lease = Lease(clock, DURATION)
    assert not lease.holds()
    asked = clock.monotonic()
    clock.now += 4
    lease.granted(7, asked)
    assert (lease.token, lease.until) == (7, asked + DURATION)
    clock.now += 5.9
    assert lease.holds()
    clock.now += 0.1
    assert not lease.holds()
    lease.renewed(clock.monotonic())
    assert lease.holds()
    lease.given_up()

    assert not lease.holds()
    assert lease.token == 7


def test_only_who_was_in_contact_for_a_whole_lease_takes_over() -> None:
    """Given an outage, an instance has to be in contact for a whole lease again before it takes others over."""
    clock = TurnedClock()
    lease = Lease(clock, DURATION)
    assert not lease.may_take_over()
    for _ in range(4):
        lease.replied()
        assert not lease.may_take_over()
        clock.now += 3
    lease.replied()
    assert lease.may_take_over()
    clock.now += DURATION / 2 + 0.1
    assert not lease.may_take_over()
    lease.replied()

    assert not lease.may_take_over()


def test_what_is_announced_is_confirmed_by_the_call_that_carried_it() -> None:
    """Given announcements while a call is under way, that call confirms only what it carried."""
    progress = OutboxProgress()
    assert progress.is_confirmed
    progress.announce(3)
    progress.sent()
    progress.announce(5)
    progress.confirm()
    assert not progress.is_confirmed
    progress.confirm_upto(5)
    assert progress.is_confirmed
    progress.announce(4)
    assert progress.announced == 5
    progress.start_anew()

    assert (progress.announced, progress.is_confirmed) == (0, True)
