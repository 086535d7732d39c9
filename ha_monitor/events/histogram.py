"""The histogram of durations that is kept by name and minute: four buckets to an octave, from 1 ms to a day and a half.
So a quantile is known to a tenth, and a minute's histogram is as small as what happened in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import frexp

SHORTEST = 1000
"""In µs; bucket 0 is below it."""
STEPS = (2**-0.75, 2**-0.5, 2**-0.25)
"""Where an octave, taken from a half to one, is divided."""
LAST_BUCKET = 107
"""All that is longer."""


def bucket_of(seconds: float) -> int:
    """The bucket that a duration belongs to; `store/lua/statistics.lua` finds the same."""
    duration = int(seconds * 1_000_000 + 0.5)
    if duration < SHORTEST:
        return 0
    part, octave = frexp(duration / SHORTEST)
    low, middle, high = STEPS
    step = (0 if part < low else 1) if part < middle else (2 if part < high else 3)
    return min(LAST_BUCKET, 4 * octave - 3 + step)


def lower_bound(bucket: int) -> float:
    """The shortest duration of a bucket, in seconds."""
    return float(SHORTEST * 2 ** ((bucket - 1) / 4) / 1e6) if bucket else 0.0


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration in seconds below which so many of all are; None if there are none.

    :param counts: bucket -> how many.
    """
    left = share * sum(counts.values())
    for bucket, count in sorted(counts.items()):
        if count > 0 and left <= count:
            low, high = lower_bound(bucket), lower_bound(bucket + 1)
            # Durations are spread evenly by their logarithm, rather than by their length; below 1 ms by their length.
            inside = left / count
            return low * (high / low) ** inside if low else high * inside
        left -= count
    return None
