"""How often Python looks for cycles among what the program has made."""

from __future__ import annotations

import gc

SELDOM = 100_000
"""New objects after which it looks: more than a command makes that asks once."""
RUNNING = 10_000
"""The same for what runs for long: more than are there at once of a batch, few of which are part of a cycle."""


def seldom() -> None:
    """For a start: Python would look through all that is imported again and again, a tenth of a short command."""
    gc.set_threshold(SELDOM)


def while_running() -> None:
    """For what runs for long, once its parts are imported: these stay, so that they need not be looked through."""
    gc.freeze()
    gc.set_threshold(RUNNING)


def no_more() -> None:
    """For the end: Python would look through everything twice more, another tenth, and the system takes it all."""
    gc.freeze()
