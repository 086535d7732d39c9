"""What the error of a wait in vain says, so that a fault and a slow machine can be told apart."""

from __future__ import annotations

import re

import pytest

from tests.support.process import wait_for_value, wait_until

MACHINE = r"\d+\.\d s \(0 s on an idle machine; load \d+\.\d \d+\.\d \d+\.\d on \d+ cores[^;]*"


def test_a_wait_in_vain_names_what_it_saw_last_how_long_it_waited_and_the_load() -> None:
    with pytest.raises(TimeoutError) as raised:
        wait_until(lambda: [], 0, "an answer")

    assert re.fullmatch(rf"an answer did not happen within {MACHINE}; last value: \[\]\)", str(raised.value))


def test_a_wait_for_a_value_names_both_it_and_what_it_saw_last() -> None:
    with pytest.raises(TimeoutError) as raised:
        wait_for_value(lambda: 2, 3, 0, "the lines")

    assert re.fullmatch(rf"the lines, 3, did not happen within {MACHINE}; last value: 2\)", str(raised.value))


def test_a_wait_ends_when_the_value_has_come() -> None:
    values = iter([1, 2, 3])

    wait_for_value(lambda: next(values), 2, what="the second", interval=0)

    assert next(values) == 3
