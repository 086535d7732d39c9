"""From merged to announced: the pending items of the outbox, and how far it is announced."""

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

AT_ONCE = 500
"""Items whose lines are written together."""
BREATH = 0.1
"""Seconds between two checks of the lease while a handler runs."""


class Upkeep(Protocol):
    """What must go on while something is announced, by whoever announces. The first two may add items."""

    def renew_lease(self) -> bool:
        """Renew the lease; returns False if that has to wait until batches under way are merged. Blocks.
        :raises StoreUnavailable: and :raises LeaseLost: as `store/api.py` says.
        """

    def keep_alive(self) -> None:
        """Renew the lease if it is time, and keep the connection to the broker. Raises as `renew_lease` does."""

    def made_progress(self) -> None:
        """The handlers of an item have returned: the loop does not hang."""


class Announcements:
    """The items of this instance's outbox that are not announced yet, in order."""

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
        """Sequence number below which the lines are written, though the handlers may not have been called."""
        self._marked_until = 0
        """Sequence number behind the last that was marked here as `recovered`, of what was forgotten."""
        self._went_back_at = 0.0
        """`Store.went_back_at`, as it was when what is pending was looked at last."""

    def __len__(self) -> int:
        return len(self._pending)

    def restore(self) -> None:
        """Have a store that went back merge again what this instance did lately, and announce what of it nobody has
        announced. Raises as `announce` does; what is left is for the next call.
        """
        while self._store.lacks_work:
            self.add(item._replace(recovered=True) for item in self._store.restore())
            self.announce()
            self._upkeep.keep_alive()

    def add(self, items: Iterable[OutboxItem], *, was_redelivered: bool = False) -> None:
        """:param was_redelivered: they are of messages that the broker had delivered before."""
        self._mark_what_is_lost()
        if self._store.went_back_at:
            items = self._repeats.marked(items, was_redelivered=was_redelivered)
        self._pending.extend(items)

    def _mark_what_is_lost(self) -> None:
        """Where the store went back since, it does not know of what is pending here: another instance may have had the
        same events merged again, and announced them.
        """
        if self._store.went_back_at > self._went_back_at:
            self._went_back_at = self._store.went_back_at
            self._pending = deque(item._replace(recovered=True) for item in self._pending)

    def recover(self, recovered: Recovered) -> None:
        """Continue after a broken connection with the content of the outbox."""
        # A Redis that crashed and lost its last second reuses sequence numbers.
        self._lines_until = min(self._lines_until, recovered.behind)
        # The store does not keep these marks; what it is being given again, others may have announced.
        until = recovered.behind if self._store.lacks_work else self._marked_until
        self.add(item._replace(recovered=True) if item.sequence < until else item for item in recovered.items)

    def forget(self) -> None:
        """Drop what is pending here; it is still in the outbox in Redis."""
        marked = (item.sequence + 1 for item in self._pending if item.recovered)
        self._marked_until = max(self._marked_until, *marked, 0)
        self._pending.clear()

    def start_anew(self) -> None:
        """The instance has a new token, hence an empty outbox with sequence numbers from 0."""
        self._pending.clear()
        self._lines_until = self._marked_until = 0

    def announce(self) -> bool:
        """Write the lines and call the handlers of all that is pending; returns whether all of it is announced.

        A line is only written while the lease is valid: later, another instance may have taken the outbox over. An
        item stays pending until it is done, whatever happens.

        :raises LeaseLost: if that has happened. :raises StoreUnavailable: if the lease could not be renewed.
        """
        while self._pending:
            if not self._store.holds_lease() and not self._upkeep.renew_lease():
                return False
            self._mark_what_is_lost()
            chunk = list(islice(self._pending, AT_ONCE))
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
        """Call the handlers of one item, in a thread of their own: a slow one must not cost the lease.

        Without a thread they are called here: the call is guaranteed, while a lease can be renewed.
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
        """Wait until the handlers have returned; returns what happened to the store meanwhile."""
        while not self._thread.wait(called, BREATH):
            try:
                self._upkeep.keep_alive()
            except (LeaseLost, StoreUnavailable) as error:
                # A running handler must not be called a second time meanwhile, and its success must be known.
                self._thread.wait(called)
                return error
        return None


def _event_ids(items: Iterable[OutboxItem]) -> list[str]:
    """Those of the events that are announced; a handler that is called again announces none."""
    return [item.entry.event.id for item in items if item.entry.kind == 0]
