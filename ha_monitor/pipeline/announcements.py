"""From merged to announced: what of the outbox is still to go out, and how far it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from functools import partial
from itertools import islice

from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.outputs.announcer import Announcer, Outcome
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Recovered
from ha_monitor.threads import Aside, Threads, ThreadUnavailable

AT_ONCE = 500
"""Items whose lines are written together."""
BREATH = 0.1
"""Seconds between two looks at the lease while a handler works."""


class Announcements:
    """The items of this instance's outbox that are not out yet, in order."""

    def __init__(
        self,
        *,
        store: Store,
        announcer: Announcer,
        stats: Stats,
        threads: Threads,
        renew_lease: Callable[[], None],
        keep_alive: Callable[[], None],
        handled: Callable[[], None],
    ) -> None:
        """
        :param renew_lease: renews the lease or raises; may add items.
        :param keep_alive: is called again and again while a handler works; may add items.
        :param handled: is called when the handlers of an item have returned.
        """
        self._store = store
        self.announcer = announcer
        self._stats = stats
        self._renew_lease = renew_lease
        self._keep_alive = keep_alive
        self._handled = handled
        self._aside = Aside(threads, "handlers")
        self._pending: deque[OutboxItem] = deque()
        self._lines_until = 0
        """Sequence number below which the lines are written, though the handlers may not have been called."""

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, items: Iterable[OutboxItem]) -> None:
        self._pending.extend(items)

    def recover(self, recovered: Recovered) -> None:
        """Go on after a broken connection with what the outbox held."""
        # A Redis that crashed and forgot its last second gives sequence numbers out a second time.
        self._lines_until = min(self._lines_until, recovered.behind)
        self.add(recovered.items)

    def forget(self) -> None:
        """Drop what is pending here; it is still in the outbox in Redis."""
        self._pending.clear()

    def start_anew(self) -> None:
        """The instance has a new token, hence an empty outbox with sequence numbers from 0."""
        self._pending.clear()
        self._lines_until = 0

    def announce(self) -> None:
        """Write the lines and call the handlers of all that is pending.

        A line is only written while the lease holds: after it, another instance may have taken the outbox over. An item
        is pending until it is done, whatever happens.

        :raises LeaseLost: if that has happened. :raises StoreUnavailable: if Redis could not be asked.
        """
        while self._pending:
            if not self._store.holds_lease():
                self._renew_lease()
            chunk = list(islice(self._pending, AT_ONCE))
            behind = chunk[-1].sequence + 1
            unwritten = [item for item in chunk if item.sequence >= self._lines_until]
            self._stats.lines += self.announcer.write_lines(unwritten)
            self._lines_until = max(self._lines_until, behind)
            if self.announcer.has_handlers or any(item.entry.kind for item in chunk):
                for item in chunk:
                    if self.announcer.is_for_handlers(item):
                        self._handle(item)
                    else:
                        self._store.announced(item.sequence + 1)
                    self._pending.popleft()
            else:
                for _ in chunk:
                    self._pending.popleft()
                self._store.announced(behind)

    def _handle(self, item: OutboxItem) -> None:
        """Call the handlers of one item, in a thread of their own: a slow one must not cost the lease.

        Without a thread they are called here: that they are called is promised, and a lease can be had again.
        """
        outcome = Outcome()
        call = partial(self.announcer.call_handlers, item, outcome)
        called = self._aside.begin(call)
        trouble = self._wait_for(called)
        try:
            called.result()
        except ThreadUnavailable:
            call()
        if not outcome.is_open:
            self._store.announced(item.sequence + 1)
        if trouble is not None:
            raise trouble
        if outcome.is_open:
            self._stats.handler_failures += outcome.failures
            self._stats.dead_letters += len(outcome.dead_letters)
            keep = self.announcer.keep_dead_letters
            self._store.settle(item.sequence + 1, outcome.retries, outcome.dead_letters, keep)
        self._handled()
        self._keep_alive()

    def _wait_for(self, called: Future[None]) -> LeaseLost | StoreUnavailable | None:
        """Wait until the handlers have returned; returns what happened to the store meanwhile."""
        while not wait([called], BREATH).done:
            try:
                self._keep_alive()
            except (LeaseLost, StoreUnavailable) as error:
                # What works now must not be called again while it does, and that it worked must be known.
                wait([called])
                return error
        return None
