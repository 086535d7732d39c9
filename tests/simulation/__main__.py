"""Run worlds: `python -m tests.simulation --seeds 10000`, or one of them again: `--seed 4711 -v`."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import World

COLLECTED_EVERY = 10
"""Worlds after which those that are over are thrown away; one takes a megabyte."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--mutations", action="store_true", help="take out cures, and say how many seeds find each")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what happened")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return run_one(arguments.seed, verbose=arguments.verbose)
    if arguments.mutations:
        return run_mutations(arguments.seeds)
    began = time.process_time()
    failed = 0
    # A world is one large circle of objects, all of which go with it: looking for garbage while it runs finds little.
    gc.collect()
    gc.freeze()
    gc.disable()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if wrong := World(seed).run():
            failed += 1
            say(f"FAILED seed {seed}: {wrong[0]}")
        if seed % COLLECTED_EVERY == 0:
            gc.collect()
    spent = time.process_time() - began
    rate = arguments.seeds / spent * 60
    say(f"{arguments.seeds} seeds, {failed} failed; {spent:.1f} s of one core, {rate:.0f} seeds a minute")
    return int(failed > 0)


def run_mutations(seeds: int) -> int:
    """How many seeds each takes to be found."""
    missed = 0
    for mutation in MUTATIONS:
        with mutation.taken_out():
            found = next(((seed, wrong) for seed in range(seeds) if (wrong := World(seed).run())), None)
        missed += found is None
        after = f"not within {seeds} seeds" if found is None else f"{found[0] + 1} seeds: {found[1][0]}"
        say(f"{mutation.name}: {after}")
    return int(missed > 0)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_one(seed: int, *, verbose: bool) -> int:
    world = World(seed, detailed=verbose)
    wrong = world.run()
    for line in world.watch.story:
        say(line)
    say(f"seed {seed}: {'; '.join(wrong) or 'all well'}; {world.elapsed:.0f} s, {len(world.load.book.taken)} events")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
