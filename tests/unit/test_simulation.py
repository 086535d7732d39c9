"""The whole fleet in simulated worlds, each from a seed; see `tests/simulation`."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.world import World

SEEDS, AT_ONCE = 40, 10
ONCE_WRONG = (4028, 7248, 9560)
"""Worlds in which a fault of the program was found."""


@pytest.mark.thorough
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_happens_all_is_announced_once_and_nothing_is_called_wrong(first: int) -> None:
    """Given crashes, freezes, cut links, lost replies, outages, steps of clocks and slow handlers at any step, nothing
    is lost, nothing comes twice unmarked, no name is missing that the broker still holds, no alarm is false, /readyz
    tells the truth, and the fleet comes to rest. `make test` runs 10,000 such worlds. `python -m tests.simulation
    --seed … -v` tells what happened.
    """
    wrong = {seed: found for seed in range(first, first + AT_ONCE) if (found := World(seed).run())}

    assert wrong == {}


@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_what_once_went_wrong_goes_well(seed: int) -> None:
    """Given a world in which a name was missing that the broker still held, or a line came twice, all is well."""
    assert World(seed).run() == []


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one.seed is not None], ids=lambda one: str(one.name))
def test_a_cure_that_is_taken_out_is_missed(mutation: Mutation) -> None:
    """Given the program without one of its cures, the world of a seed shows what is wrong then."""
    assert mutation.seed is not None
    with mutation.taken_out():
        wrong = World(mutation.seed).run()

    assert any(mutation.finds in text for text in wrong), wrong


def test_a_seed_gives_the_same_world_each_time() -> None:
    """Given a seed, the same happens at the same times."""
    first, second = World(4711, detailed=True), World(4711, detailed=True)
    first.run()
    second.run()

    assert len(first.watch.story) > 50
    assert first.watch.story == second.watch.story
