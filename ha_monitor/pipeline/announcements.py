"""Announces the pending items of this instance's outbox, and records how far the outbox is announced."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Protocol

from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.outputs.handler_calls import HandlerCalls, Outcome
from ha_monitor.outputs.line import EventLines
from ha_monitor.pipeline.repeats import Repeats
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Recovered
from ha_monitor.threads import Threads, ThreadUnavailable

CHUNK_SIZE = 500
"""Maximum items whose lines are written together."""
LEASE_CHECK_EVERY = 0.1
"""Seconds between two checks of the lease while a handler runs."""


class Upkeep(Protocol):
    """What must continue while something is announced. `renew_lease` and `keep_alive` may add items."""

    def renew_lease(self) -> bool:
        """Renew the lease. Returns False if that has to wait until the batches in flight are merged. Blocks.

        :raises StoreUnavailable: and :raises LeaseLost: as `store/api.py` says.
        """

    def keep_alive(self) -> None:
        """Renew the lease if that is due, and keep the connection to the broker. Raises as `renew_lease` does."""

    def made_progress(self) -> None:
        """Note that the handlers of an item have returned, so the loop does not hang."""


class Announcements:
    """The items of this instance's outbox that are not announced yet, in their order."""

    def __init__(
        self,
        store: Store,
        lines: EventLines,
        handlers: HandlerCalls,
        *,
        stats: Stats,
        threads: Threads,
        upkeep: Upkeep,
        repeats: Repeats,
    ) -> None:
        self._store = store
        self.lines, self.handlers = lines, handlers
        self._stats = stats
        self._upkeep = upkeep
        self._repeats = repeats
        self._thread = threads.calls("handlers")
        self._pending: deque[OutboxItem] = deque()
        self._lines_until = 0
        """Sequence number below which all lines are written, although handlers may not have been called yet."""
        self._marked_until = 0
        """Sequence number after the last forgotten item that was marked here as `recovered`."""
        self._went_back_at = 0.0
        """The value of `Store.went_back_at` when the pending items were last compared with it."""

    def __len__(self) -> int:
        return len(self._pending)

    def restore(self) -> None:
        """Have a store that went back merge this instance's latest batches again, and announce what was not announced.
        Raises as `announce` does; the next call continues with what is left.
        """
        while self._store.needs_restore:
            self.add(item._replace(recovered=True) for item in self._store.restore())
            self.announce()
            self._upkeep.keep_alive()

    def add(self, items: Iterable[OutboxItem], *, was_redelivered: bool = False) -> None:
        """Add items to announce.

        :param was_redelivered: whether they come from messages that the broker had delivered before.
        """
        self._mark_what_is_lost()
        if self._store.went_back_at:
            items = self._repeats.marked(items, was_redelivered=was_redelivered)
        self._pending.extend(items)

    def add_from_store(self, items: list[OutboxItem], *, was_redelivered: bool = False) -> None:
        """Add what a batch has brought, or what was due. See `add`."""
        if self._repeats.suspects_loss:
            items = self._repeats.marked_if_lost(items, was_redelivered=was_redelivered)
        self.add(items, was_redelivered=was_redelivered)

    def _mark_what_is_lost(self) -> None:
        """Mark the pending items as recovered if the store went back since they were added. It may have lost them:
        another instance may have merged the same events again, and announced them.
        """
        if self._store.went_back_at > self._went_back_at:
            self._went_back_at = self._store.went_back_at
            self._pending = deque(item._replace(recovered=True) for item in self._pending)

    def recover(self, recovered: Recovered) -> None:
        """Continue with the content of the outbox after a connection broke."""
        self._repeats.connected()
        # A Redis that crashed and lost its last second uses sequence numbers again.
        self._lines_until = min(self._lines_until, recovered.next_sequence)
        # The store does not keep these marks; what it is being given again, others may have announced.
        until = recovered.next_sequence if self._store.needs_restore else self._marked_until
        self.add(item._replace(recovered=True) if item.sequence < until else item for item in recovered.items)

    def forget(self) -> None:
        """Without a connection, drop the pending items here; they are still in the outbox in Redis."""
        self._repeats.disconnected()
        marked = (item.sequence + 1 for item in self._pending if item.recovered)
        self._marked_until = max(self._marked_until, *marked, 0)
        self._pending.clear()

    def start_anew(self) -> None:
        """Start with an empty outbox and sequence numbers from 0, since the instance has a new token."""
        self._repeats.connected()
        self._pending.clear()
        self._lines_until = self._marked_until = 0

    def announce(self) -> bool:
        """Write the lines and call the handlers for all pending items. Returns whether all of them are announced.

        A line is written only while the lease is valid: later, another instance may have taken the outbox over. An item
        stays pending until it is done, whatever happens.

        :raises LeaseLost: if another instance has. :raises StoreUnavailable: if the lease could not be renewed.
        """
        while self._pending:
            if not self._store.holds_lease() and not self._upkeep.renew_lease():
                return False
            self._mark_what_is_lost()
            chunk = list(islice(self._pending, CHUNK_SIZE))
            behind = chunk[-1].sequence + 1
            unwritten = [item for item in chunk if item.sequence >= self._lines_until]
            self._stats.lines += self.lines.write(unwritten)
            self._lines_until = max(self._lines_until, behind)
            if self.handlers.any or any(item.entry.kind for item in chunk):
                for item in chunk:
                    if self.handlers.are_due(item):
                        self._handle(item)
                    else:
                        self._store.announced(item.sequence + 1, _event_ids([item]))
                    self._pending.popleft()
            else:
                for _ in chunk:
                    self._pending.popleft()
                self._store.announced(behind, _event_ids(chunk))
        return True

    def _handle(self, item: OutboxItem) -> None:
        """Call the handlers for one item, in a thread of their own: a slow handler must not cost the lease.

        If the thread cannot be started, they are called here: calls are guaranteed, and a lease can be obtained again.
        """
        outcome = Outcome()
        call = partial(self.handlers.call, item, outcome)
        called = self._thread.submit(call)
        trouble = self._wait_for(called)
        try:
            called.result()
        except ThreadUnavailable:
            call()
        if not outcome.is_open:
            self._store.announced(item.sequence + 1, _event_ids([item]))
        if trouble is not None:
            raise trouble
        if outcome.is_open:
            self._stats.handler_failures += outcome.failures
            self._stats.dead_letters += len(outcome.dead_letters)
            keep = self.handlers.keep_dead_letters
            self._store.record_outcome(item.sequence + 1, outcome.retries, outcome.dead_letters, keep)
        self._upkeep.made_progress()
        self._upkeep.keep_alive()

    def _wait_for(self, called: Future[None]) -> LeaseLost | StoreUnavailable | None:
        """Wait until the handlers have returned. Returns the error if the store became unavailable, or the lease was
        lost, meanwhile.
        """
        while not self._thread.wait(called, LEASE_CHECK_EVERY):
            try:
                self._upkeep.keep_alive()
            except (LeaseLost, StoreUnavailable) as error:
                # Wait for the running handler: it must not be called a second time meanwhile, and its result is needed.
                self._thread.wait(called)
                return error
        return None


def _event_ids(items: Iterable[OutboxItem]) -> list[str]:
    """The ids of the events that these items announce. A repeated call of a handler announces none."""
    return [item.entry.event.id for item in items if item.entry.kind == 0]
