"""How long it takes from what is wrong to its line, by kind: with the loop, its defaults and a simulated clock. The
table in docs/being-told.md is what `pytest -s` prints here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ha_monitor.incidents.catalogue import CATALOGUE
from tests.unit.incident_world import CAUSES, begin, opened, world_of

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/being-told.md"


def documented() -> list[tuple[str, int]]:
    """The rows of the table in the documentation: (kind, seconds)."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("**How long it takes.**") : text.index("## Once")]
    return [(kind, int(seconds)) for kind, seconds in re.findall(r"^\| `([a-z-]+)` \| (\d+) s \|", table, re.MULTILINE)]


def seconds_until(kind: str) -> float:
    """From what is wrong to the line."""
    world = world_of(kind)
    begun = begin(world, kind)
    world.until(lambda: opened(world, kind))
    return float(world.bed.clock.now - begun)


@pytest.mark.thorough
def test_each_kind_is_told_as_soon_as_the_documentation_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Given the catalogue and what is wrong, the table has each kind, in its order, with the time until its line."""
    took = [(kind.name, round(seconds_until(kind.name))) for kind in CATALOGUE]

    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(f"{kind:18}{seconds:>5} s" for kind, seconds in took) + "\n")
    assert documented() == took
    assert [kind for kind, _ in took] == list(CAUSES)
