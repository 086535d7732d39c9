"""How many modules one event goes through, so that its way can be read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.unit.builders import decode, event
from tests.unit.loop_bed import Bed, Instance

PACKAGE = Path(__file__).resolve().parents[2] / "ha_monitor"
STAND_INS = ("broker/memory.py", "store/memory/")
"""What a test has instead of RabbitMQ and Redis; the real parts between are not counted either."""
MOST = 22
"""Modules between what the broker gives and its acknowledgement."""
FOR_SECRETS = 2
"""Further modules for an event in whose texts there is a key of a secret."""


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        pytest.param("{'order': 17}", MOST, id="without a secret"),
        pytest.param("{'password': 'hunter2'}", MOST + FOR_SECRETS, id="with a secret"),
    ],
)
def test_one_event_goes_through_few_modules(arguments: str, most: int) -> None:
    """Given one event in a quiet instance, from receiving its message to its acknowledgement no more modules work on it
    than a reader can follow. Whoever needs another one may join two that are read together."""
    decode(event("task-received", kwargs=arguments))  # what is made once, when it is first needed, is made now
    bed = Bed()
    one = Instance(bed)
    # The first event of all compiles what later ones use.
    bed.publish(event("task-received", uuid="another", kwargs=arguments))
    one.cycle(6)
    bed.publish(event("task-received", kwargs=arguments))
    entered: set[str] = set()

    def note(frame: FrameType, what: str, _argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if what == "call" and path.is_relative_to(PACKAGE):
            entered.add(path.relative_to(PACKAGE).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        one.cycle()
    finally:
        sys.setprofile(before)

    assert len(one.announced) == 2
    assert bed.is_settled
    modules = sorted(path for path in entered if not path.startswith(STAND_INS))
    assert len(modules) <= most, " ".join(modules)
