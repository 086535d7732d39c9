"""From merged to announced: what of the outbox is still to go out, and how far it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from ha_monitor.outputs.announcer import Announcer, Outcome
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Recovered
from ha_monitor.store.store import Store

AT_ONCE = 500
"""Items whose lines are written together."""


class Announcements:
    """The items of this instance's outbox that are not out yet, in order."""

    def __init__(
        self,
        *,
        store: Store,
        announcer: Announcer,
        stats: Stats,
        keep_dead_letters: int,
        renew_lease: Callable[[], None],
        keep_alive: Callable[[], None],
    ) -> None:
        """
        :param renew_lease: renews the lease or raises; may add items.
        :param keep_alive: is called between two handlers; may add items.
        """
        self._store = store
        self.announcer = announcer
        self._stats = stats
        self._keep_dead_letters = keep_dead_letters
        self._renew_lease = renew_lease
        self._keep_alive = keep_alive
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

        A line is only written while the lease holds: after it, another instance may have taken the outbox over.

        :raises LeaseLost: if that has happened. :raises StoreUnavailable: if Redis could not be asked.
        """
        while self._pending:
            if not self._store.holds_lease():
                self._renew_lease()
            chunk = [self._pending.popleft() for _ in range(min(AT_ONCE, len(self._pending)))]
            behind = chunk[-1].sequence + 1
            unwritten = [item for item in chunk if item.sequence >= self._lines_until]
            self._stats.lines += self.announcer.write_lines(unwritten)
            self._lines_until = max(self._lines_until, behind)
            if self.announcer.has_handlers or any(item.entry.kind for item in chunk):
                for item in chunk:
                    self._handle(item)
                    self._keep_alive()
            self._store.announced(behind)

    def _handle(self, item: OutboxItem) -> None:
        outcome = Outcome()
        self.announcer.call_handlers(item, outcome)
        if outcome.retries or outcome.dead_letters:
            self._stats.handler_failures += len(outcome.retries) + len(outcome.dead_letters)
            self._stats.dead_letters += len(outcome.dead_letters)
            self._store.settle(item.sequence + 1, outcome.retries, outcome.dead_letters, self._keep_dead_letters)
        else:
            self._store.announced(item.sequence + 1)
