"""Instances that are killed again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.support.instances import Fleet
from tests.support.ledger import Published


def kill_at_random(fleet: Fleet, kills: int, seed: int, at_stake: Callable[[], Published] | None = None) -> None:
    """Kill one instance after the other with SIGKILL and start each again; one that consumes is always left.

    :param at_stake: what was published so far, of a broker that keeps nothing: what came before the others
        consumed, they did not get, so it is waited for.
    """
    choice = random.Random(seed)
    done = 0
    while done < kills:
        time.sleep(choice.uniform(0.05, 0.4))
        victim = choice.choice(fleet.instances)
        if victim.running and not any(one.consumes() for one in fleet.instances if one is not victim and one.running):
            continue
        if at_stake is not None:
            fleet.wait_until_announced(at_stake())
        victim.kill()
        victim.start()
        done += 1
