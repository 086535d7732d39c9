"""Redis' limit for subscribers, as it tells it."""

from __future__ import annotations

import pytest

from ha_monitor.broker.pubsub_limit import RECOMMENDED, SETTING, PubSubLimit, limit_in

REST = "normal 0 0 0 slave 268435456 67108864 60 pubsub"


@pytest.mark.parametrize(
    ("told", "limit", "is_low", "written"),
    [
        (f"{REST} 33554432 8388608 60", (33554432, 8388608, 60), True, "pubsub 32mb 8mb 60"),
        (f"{REST} 268435456 67108864 60", RECOMMENDED, False, "pubsub 256mb 64mb 60"),
        (f"{REST} 268435456 8388608 60", (268435456, 8388608, 60), True, "pubsub 256mb 8mb 60"),
        (f"{REST} 0 0 0", (0, 0, 0), False, "pubsub 0 0 0"),
        (f"{REST} 1000 0 0", (1000, 0, 0), True, "pubsub 1000 0 0"),
    ],
)
def test_the_limit_is_read_and_judged(told: str, limit: tuple[int, int, int], is_low: bool, written: str) -> None:
    """Given what Redis says, it is low if either size is below what is recommended; 0 is no limit. It is written as
    Redis takes it."""
    read = limit_in({SETTING: told})

    assert read == PubSubLimit(*limit)
    assert (read.is_low, str(read)) == (is_low, written)


@pytest.mark.parametrize("told", [{}, {SETTING: ""}, {SETTING: f"{REST} 1 2"}, {SETTING: f"{REST} a b c"}])
def test_what_cannot_be_read_is_no_limit(told: dict[str, str]) -> None:
    """Given an answer of another kind, nothing is known."""
    assert limit_in(told) is None
