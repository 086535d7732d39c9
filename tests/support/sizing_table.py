"""The memory by rate and time to live, as `docs/operations.md` has it: `python -m tests.support.sizing_table`."""

from __future__ import annotations

import sys

WHOLE, BRIEF = 370, 87
"""Bytes of Redis that the record of a succeeded task takes, and what is left of it after `store.detail_ttl`; measured
(`tests/integration/test_briefs.py`) with ids, names and nodenames as Celery has them, four events, and no arguments.
"""
RATES = (1, 10, 100, 1000)
"""Tasks a second."""
TIMES = ((86400, 86400), (86400, 3600), (86400, 600), (43200, 600), (604800, 600))
"""`store.success_ttl` and `store.detail_ttl`."""


def bytes_a_day(rate: float, *, detail_ttl: float, success_ttl: float = 86400) -> float:
    """Bytes that records take of tasks that succeed at a steady rate, once the first have expired.

    :param rate: tasks a second.
    :param detail_ttl: seconds for which a record is whole.
    :param success_ttl: seconds for which anything of it is kept.
    """
    whole = min(detail_ttl, success_ttl)
    brief = success_ttl if whole < success_ttl else 0
    return rate * (whole * WHOLE + brief * BRIEF)


def table() -> str:
    """One row for each pair of settings, one column a rate."""
    rows = [
        f"| `success_ttl` | `detail_ttl` | {' | '.join(f'{rate:,}/s' for rate in RATES)} |",
        f"|---|---|{'---|' * len(RATES)}",
    ]
    for success_ttl, detail_ttl in TIMES:
        sizes = [bytes_a_day(rate, detail_ttl=detail_ttl, success_ttl=success_ttl) for rate in RATES]
        shown = "0 (whole)" if detail_ttl >= success_ttl else f"{detail_ttl} ({_time(detail_ttl)})"
        rows.append(f"| {success_ttl} ({_time(success_ttl)}) | {shown} | {' | '.join(map(_size, sizes))} |")
    return "\n".join(rows) + "\n"


def _time(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _size(size: float) -> str:
    """Two digits, since the rest depends on names and ids."""
    for unit, length in (("GB", 1e9), ("MB", 1e6)):
        if size >= length:
            return f"{size / length:.{0 if size >= 10 * length else 1}f} {unit}"
    return f"{size / 1e3:.0f} kB"


if __name__ == "__main__":
    sys.stdout.write(table())
