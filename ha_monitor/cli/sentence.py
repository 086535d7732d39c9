"""Parts of the sentence about an answer: what it may lack, and what has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ha_monitor.text.times import relative
from ha_monitor.text.visible import visible

if TYPE_CHECKING:
    from ha_monitor.incidents.changes import Change
    from ha_monitor.store.queries import Gap


def gaps_text(gaps: Sequence[Gap], time_of: Callable[[float], str]) -> str:
    """What may be missing, and from which period. :param time_of: formats a time; 0 means none."""
    lacks = "; ".join(visible(_gap_text(gap, time_of)) for gap in gaps)
    return f"May lack: {lacks}." if lacks else "Complete."


def changes_text(changes: Sequence[Change], now: float) -> str:
    """What changed lately, with a leading blank; empty if nothing did."""
    said = (one.what if one.says_when else f"{one.what} {relative(one.since, now)}" for one in changes)
    return f" Changed within the last hour: {visible('; '.join(said))}." if changes else ""


def _gap_text(gap: Gap, time_of: Callable[[float], str]) -> str:
    since, until = time_of(gap.since)[:19], time_of(gap.until)[:19]
    if since and until:
        return f"{gap.what} between {since} and {until}"
    return f"{gap.what} since {since}" if since else f"{gap.what} before {until}" if until else gap.what
