"""Liveness and readiness of an instance. The loop writes; the HTTP threads only read."""

from __future__ import annotations

from typing import Any, NamedTuple

from ha_monitor.clock import Clock


class Answer(NamedTuple):
    """The answer to a probe."""

    good: bool
    details: dict[str, Any]


class Health:
    """The state of the loop. Each attribute is replaced atomically, so a reader in another thread never sees a partial
    update."""

    def __init__(self, clock: Clock, stalled_after: float, lease: float) -> None:
        """
        :param stalled_after: seconds without progress after which the loop counts as stuck.
        :param lease: seconds without the store after which other instances may take over this one's outbox.
        """
        self._clock = clock
        self._lease = lease
        self._stalled_after = stalled_after
        self._progress_at = clock.monotonic()
        self._broker: str | None = "not connected yet"
        self._store: str | None = "not connected yet"
        self._store_lost_at: float | None = self._progress_at
        self._refused: tuple[str, float] | None = None
        self._batch_since: float | None = None
        self._committed_at: float | None = None
        self._stopping = False

    # --- written by the loop ---------------------------------------------------------------

    def progress(self) -> None:
        """The loop completed a cycle."""
        self._progress_at = self._clock.monotonic()

    def broker(self, problem: str | None) -> None:
        """:param problem: why the instance does not consume; None if it does."""
        self._broker = problem

    def store(self, problem: str | None) -> None:
        """:param problem: why the store cannot be used; None if it answers."""
        self._store = problem
        if problem is None:
            self._store_lost_at = None
        elif self._store_lost_at is None:
            self._store_lost_at = self._clock.monotonic()

    def store_refused(self, problem: str, until: float) -> None:
        """The store answers, but refused something, and may do so again at the next call.

        :param until: when this expires unless it is repeated, by the monotonic clock.
        """
        self._refused = problem, until

    def batch_began(self) -> None:
        """A batch is in flight."""
        if self._batch_since is None:
            self._batch_since = self._clock.monotonic()

    def batch_committed(self) -> None:
        """The batch is merged, announced and acknowledged."""
        self._batch_since = None
        self._committed_at = self._clock.monotonic()

    def batch_requeued(self) -> None:
        """The broker will redeliver the batch, to this instance or another."""
        self._batch_since = None

    def stopping(self) -> None:
        """The instance was asked to stop."""
        self._stopping = True

    # --- read by others --------------------------------------------------------------------

    def live(self) -> Answer:
        """Whether the loop made progress. If not, only a restart helps."""
        idle = self._clock.monotonic() - self._progress_at
        return Answer(
            idle <= self._stalled_after, {"progress_age": round(idle, 3), "stalled_after": self._stalled_after}
        )

    def ready(self) -> Answer:
        """Whether the instance works, and if not, why."""
        now = self._clock.monotonic()
        reasons = []
        if not self.live().good:
            reasons.append(f"the loop made no progress for {now - self._progress_at:.1f} s")
        if self._stopping:
            reasons.append("stopping")
        store, refused = self._store, self._refused
        if store is None and refused is not None and now < refused[1]:
            store = refused[0]
        if store is not None:
            reasons.append(f"store: {store}")
        if self._broker is not None:
            reasons.append(f"broker: {self._broker}")
        since = self._batch_since
        if since is not None and now - since > self._stalled_after:
            reasons.append(f"a batch has not been committed for {now - since:.1f} s")
        committed, lost_at = self._committed_at, self._store_lost_at
        # Without the store for longer, this instance no longer owns what it receives.
        has_lease = lost_at is None or now - lost_at <= self._lease
        return Answer(
            not reasons,
            {
                "reasons": reasons,
                "consuming": self._broker is None and has_lease,
                "store": store is None,
                "last_commit_age": None if committed is None else round(now - committed, 3),
            },
        )
