"""When something that is done again and again is due."""

from __future__ import annotations

from ha_monitor.schedule import Schedule
from tests.unit.builders import TurnedClock


def test_it_is_due_at_once_and_then_after_each_pause() -> None:
    """Given a schedule, it is due until it is restarted, and again one pause later; asking changes nothing."""
    clock = TurnedClock()
    schedule = Schedule(clock, 5.0)
    assert (schedule.is_due(), schedule.remaining()) == (True, 0.0)
    assert schedule.is_due()
    schedule.restart()
    clock.now += 4
    assert (schedule.is_due(), schedule.remaining()) == (False, 1.0)
    clock.now += 1
    assert (schedule.is_due(), schedule.remaining()) == (True, 0.0)
    schedule.restart(after=1.0)
    clock.now += 1

    assert schedule.is_due()


def test_it_can_be_hastened_and_not_put_off() -> None:
    """Given something that cannot wait, it is due sooner; what could wait longer does not put it off."""
    clock = TurnedClock()
    schedule = Schedule(clock, 5.0)
    schedule.restart()
    schedule.hasten(within=2.0)
    schedule.hasten(within=100.0)
    assert schedule.remaining() == 2.0
    schedule.hasten()

    assert schedule.is_due()
