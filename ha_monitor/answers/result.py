"""One form for all answers, and the document made of it for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, Struct

from ha_monitor.incidents.changes import Change
from ha_monitor.query.items import ChangeItem, Document, gap_item, time_or_null
from ha_monitor.store.queries import Gap
from ha_monitor.text.visible import written_out_bytes


class Result(NamedTuple):
    """What was found, where it was searched, and what may be missing."""

    time: float
    """When the question was asked, by the store's clock, in seconds since the epoch."""
    items: Sequence[Any]
    item_of: Callable[[Any, float], Struct]
    """Converts an item for programs, as of a time in seconds since the epoch."""
    searched: str
    """Where it was searched, for people."""
    gaps: Sequence[Gap] = ()
    """What the answer may lack; empty if it is complete."""
    more: bool = False
    """Whether there are more items than were asked for."""
    after: str = ""
    """Where the next items begin, if there are more and the list can be continued."""
    changes: Sequence[Change] | None = None
    """What changed in the hour before; None if that was not asked for."""

    def documents(self) -> list[Struct]:
        """All items for programs."""
        return [self.item_of(item, self.time) for item in self.items]


def document_of(result: Result) -> Document:
    """The answer as one document."""
    items = result.documents()
    found = document(result.time, items, result.searched, result.gaps, more=result.more, changes=result.changes)
    if result.after:
        found.after = written_out_bytes(result.after)
    return found


def document(
    time: float,
    items: Sequence[Struct],
    searched: str,
    gaps: Sequence[Gap],
    *,
    more: bool,
    changes: Sequence[Change] | None = None,
) -> Document:
    """An answer as one document."""
    return Document(
        time=time_or_null(time) or "",
        complete=not gaps,
        gaps=[gap_item(gap._replace(what=written_out_bytes(gap.what))) for gap in gaps],
        searched=written_out_bytes(searched),
        more=more,
        items=items,
        changes=UNSET if changes is None else [_change_item(one) for one in changes],
    )


def _change_item(change: Change) -> ChangeItem:
    return ChangeItem(written_out_bytes(change.what), time_or_null(change.since), time_or_null(change.until))
