"""What the leader does beside its share of the events, as the leader itself sees it."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.store.outbox import OutboxItem


class Duty(Protocol):
    """Something that only the leader does, a little at a time. Runs in the loop's thread."""

    def start_anew(self) -> None:
        """The leader has changed: another one may have done some of this meanwhile. Does not block."""

    def run(self) -> list[OutboxItem]:
        """Do what is due, if anything is. Blocks for a few calls of the store at most.

        :returns: what is to be announced; all of it is in the outbox.
        :raises StoreUnavailable: as `store/api.py` says. :raises LeaseLost: likewise.
        """
