"""The histogram of durations that is kept by name and minute."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_monitor.events.histogram import LAST_BUCKET, bucket_of, lower_bound, quantile


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.0009, 0), (0.001, 1), (0.00118, 1), (0.00119, 2), (0.002, 5), (1e6, LAST_BUCKET), (3e9, LAST_BUCKET)],
)
def test_a_duration_has_a_bucket(seconds: float, bucket: int) -> None:
    """Given a duration, its bucket is that whose lower bound it reaches."""
    assert bucket_of(seconds) == bucket


@settings(max_examples=50)
@given(st.lists(st.floats(0.001, 50_000.0), min_size=1, max_size=50), st.sampled_from([0.01, 0.5, 0.95, 1.0]))
def test_a_quantile_is_known_to_a_bucket(durations: list[float], share: float) -> None:
    """Given durations, a quantile of their histogram is in the same bucket as that of the durations themselves."""
    found = quantile(Counter(map(bucket_of, durations)), share)
    exact = sorted(durations)[max(0, -int(-share * len(durations) // 1) - 1)]

    assert found is not None
    assert exact / 2**0.26 <= found <= exact * 2**0.26


def test_nothing_has_no_quantile() -> None:
    """Given no durations, there is no quantile."""
    assert quantile({}, 0.5) is None


@settings(max_examples=50)
@given(st.floats(0.0, 90_000.0))
def test_a_duration_is_between_the_bounds_of_its_bucket(seconds: float) -> None:
    """Given a duration, the bounds of its bucket are around it, but for half a microsecond."""
    bucket = bucket_of(seconds)

    assert lower_bound(bucket) - 1e-6 <= seconds < lower_bound(bucket + 1) + 1e-6
