"""The interface of the leader's duties, which it performs in addition to handling its share of the events."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.store.outbox import OutboxItem


class Duty(Protocol):
    """Work that only the leader does, a little at a time. Runs in the loop's thread."""

    def start_anew(self) -> None:
        """The leader has changed, so another instance may have done some of the work meanwhile. Does not block."""

    def run(self) -> list[OutboxItem]:
        """Do what is due, if anything. Blocks for at most a few calls of the store.

        :returns: the items to announce; all of them are in the outbox.
        :raises StoreUnavailable: as `store/api.py` says. :raises LeaseLost: likewise.
        """
