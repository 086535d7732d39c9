"""A thousand days of beats, watched: no false alarm, and nothing that is missed goes by."""

from __future__ import annotations

from tests.simulation.schedules import simulate, table


def test_a_thousand_days_of_beats() -> None:
    """Given a thousand days over changes of the clock and a leap day, in which beats are killed, frozen, moved and
    started twice, entries come and go, and the monitor is down, behind or loses events, then whatever was
    missed and could be seen is found as soon as its grace is over, a beat that is silent is told once, two beats are
    found, and nothing else alarms.
    """
    world, result = simulate(seed=1)
    shown = table(world, result, 1000)

    assert result.false == [], shown
    assert result.late_found == [], shown
    assert result.found == result.missed - result.excused > 200, shown
    assert result.silent == result.silent_found > 5, shown
    assert result.doubled == result.doubled_found > 20, shown
    assert result.due > 30_000, shown
