"""Four hundred days of beats, watched: no false alarm, and nothing that is missed goes by."""

from __future__ import annotations

import pytest

from tests.simulation.schedules import simulate, table

DAYS = 400
"""They begin before a leap day, and the clocks change three times."""


@pytest.mark.thorough
def test_four_hundred_days_of_beats() -> None:
    """Given four hundred days over changes of the clock and a leap day, in which beats are killed, frozen, moved and
    started twice, entries come and go, and the monitor is down, behind or loses events, then whatever was
    missed and could be seen is found as soon as its grace is over, a beat that is silent is told once, two beats are
    found, and nothing else alarms.
    """
    world, result = simulate(seed=1, days=DAYS)
    shown = table(world, result, DAYS)

    assert result.false == [], shown
    assert result.late_found == [], shown
    assert result.found == result.missed - result.excused > 80, shown
    assert result.silent == result.silent_found >= 5, shown
    assert result.doubled == result.doubled_found >= 10, shown
    assert result.due > 18_000, shown
