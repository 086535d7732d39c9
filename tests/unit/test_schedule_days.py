"""Four hundred days of beats, watched: no false alarm, and nothing that is missed goes by."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulation.learned import Learner
from tests.simulation.schedules import BEGIN, DAY, HOUR, Monitor, World, entries, simulate, table

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


@pytest.mark.thorough
def test_four_hundred_days_that_nobody_told_of() -> None:
    """Given the same days of which no source tells anything, and clients of all kinds beside the beats, what is regular
    is learned, a warning comes only when something has stopped or was moved, and none lasts for much longer than a day.
    """
    end = BEGIN + DAYS * DAY
    world = World(Random(1), end, entries(end))
    world.make()
    learner = Learner(world, Monitor(world).heard)
    learner.run()

    assert learner.false == []
    regular = {"t.often", "t.nightly", "t.period", "t.quiet", "t.removed", "t.added"}
    assert learner.learned == regular | {"c.ends", "c.moves", "c.jitter"}
    assert learner.warned["c.ends"] == 1
    assert learner.warned["c.moves"] == 2
    assert sum(learner.warned[task] for task in regular) >= 8
    assert max(learner.longest.values()) < 26 * HOUR
