"""The histogram of durations that is kept by task name and minute: four buckets per octave, from 1 ms to a day and a
half. So quantiles are accurate to a tenth, and a minute with few events has a small histogram.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import frexp

MIN_DURATION = 1000
"""In µs; bucket 0 holds shorter durations."""
STEPS = (2**-0.75, 2**-0.5, 2**-0.25)
"""The bounds between the buckets of an octave, which is taken as 0.5 to 1."""
LAST_BUCKET = 107
"""Also holds all longer durations."""


def bucket_of(seconds: float) -> int:
    """The bucket of a duration; `store/lua/statistics.lua` computes the same."""
    duration = int(seconds * 1_000_000 + 0.5)
    if duration < MIN_DURATION:
        return 0
    part, octave = frexp(duration / MIN_DURATION)
    low, middle, high = STEPS
    step = (0 if part < low else 1) if part < middle else (2 if part < high else 3)
    return min(LAST_BUCKET, 4 * octave - 3 + step)


def lower_bound(bucket: int) -> float:
    """The shortest duration of a bucket, in seconds."""
    return float(MIN_DURATION * 2 ** ((bucket - 1) / 4) / 1e6) if bucket else 0.0


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration in seconds below which this share of the durations lies; None if there are none.

    :param counts: bucket → number of durations.
    :param share: 0 to 1.
    """
    left = share * sum(counts.values())
    for bucket, count in sorted(counts.items()):
        if count > 0 and left <= count:
            low, high = lower_bound(bucket), lower_bound(bucket + 1)
            # Within a bucket, interpolate logarithmically: durations are spread like that. Below 1 ms, linearly.
            inside = left / count
            return low * (high / low) ** inside if low else high * inside
        left -= count
    return None
