"""How often Python looks for cycles among what the program has made."""

from __future__ import annotations

import gc

SELDOM = 100_000
"""New objects after which it looks: more than a command makes that asks once."""
_USUAL = gc.get_threshold()


def seldom() -> None:
    """For a start: Python would look through all that is imported again and again, a tenth of a short command."""
    gc.set_threshold(SELDOM, *_USUAL[1:])


def as_usual() -> None:
    """For what runs for long."""
    gc.set_threshold(*_USUAL)


def no_more() -> None:
    """For the end: Python would look through everything twice more, another tenth, and the system takes it all."""
    gc.freeze()
