"""What an instance has counted, as Redis holds it: read completely after connecting, and then updated by replies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ha_monitor.store.api import nothing
from ha_monitor.store.counts import Counts, LabelSet
from ha_monitor.store.keys import Keys
from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.results import Counting, LabelSets

AT_ONCE = 1000
"""Counts that one call reads or restores."""
MOVED_AT_ONCE = 250
"""Counts that one call moves, since each takes several commands."""
MAX_LABEL_SETS = 500
"""Label sets that one tick adds."""
MAX_GONE = 10
"""Instances that never came back, returned at once."""


class Calls(Protocol):
    """Calls Redis, and raises `StoreUnavailable`."""

    def run(self, script: str, options: Mapping[str, Any], more_keys: Sequence[str] = ()) -> Any:
        """Run a script under the lease."""

    def command(self, *command: Any) -> Any:
        """Run a command."""


class RedisCounts:
    """See `api.CountStore`."""

    def __init__(self, calls: Calls, keys: Keys, counting: Counting | None) -> None:
        """:param counting: None to count nothing."""
        self._calls = calls
        self._keys = keys
        self.name = counting.name if counting else None
        self.key = keys.counts(counting.name if counting else "")
        self._script_options: dict[str, Any] | None = None if counting is None else counting.for_scripts()
        self._changes: list[Any] = []
        self._unpublished: list[bytes] = []
        """Label sets that other instances may not know."""
        self.latest = 0.0
        """When the latest known label set was added, as Redis holds it."""
        self.outdated = True

    @property
    def script_options(self) -> Mapping[str, Any] | None:
        """How the scripts are to count; None for not at all."""
        return self._script_options

    def connected(self) -> None:
        """A connection was made: what calls over the previous one have counted may be unknown."""
        self.outdated = True
        self._changes.clear()

    def replied(self, counted: Sequence[Any]) -> None:
        """:param counted: the part of a reply about what was counted (`lua/counted.lua`)."""
        if counted:
            added, changes = counted
            self._changes += changes
            if self._script_options is not None:
                self._script_options["room"] -= added

    def make_room(self, room: int, reserve: int) -> None:
        if self._script_options is not None:
            self._script_options["room"], self._script_options["reserve"] = room, reserve

    def take_changes(self) -> list[Any]:
        changes, self._changes = self._changes, []
        return changes

    def read(self, keep_alive: Callable[[], None] = nothing) -> Counts:
        self._changes.clear()  # what is counted between two calls is at most as old as what is read
        label_sets = [one for piece in self._label_sets(keep_alive) for one in piece]
        raw = list(self._fields(self.key, keep_alive))
        self.latest = max((one.added for one in label_sets), default=0.0)
        self.outdated = False
        return Counts(raw, label_sets)

    def read_of(self, name: str, keep_alive: Callable[[], None] = nothing) -> Counts:
        return Counts(list(self._fields(self._keys.counts(name), keep_alive)))

    def restore(self, counts: Mapping[bytes, int], keep_alive: Callable[[], None] = nothing) -> None:
        rows = [(as_lua_string(field), str(number)) for field, number in counts.items()]
        for first in range(0, len(rows), AT_ONCE):
            self._calls.run("restore_counts", {"counts": rows[first : first + AT_ONCE]})
            keep_alive()

    def publish(self, label_sets: Sequence[bytes]) -> None:
        self._unpublished += label_sets

    def move(
        self,
        moves: Sequence[tuple[bytes, bytes]],
        forgotten: Sequence[bytes] = (),
        gone: tuple[str, float] | None = None,
        keep_alive: Callable[[], None] = nothing,
    ) -> bool:
        other = None if gone is None else (gone[0], int(gone[1] * 1000))
        more_keys = [] if gone is None else [self._keys.counts(gone[0])]
        rows = [(as_lua_string(source), as_lua_string(target)) for source, target in moves]
        names = [as_lua_string(name) for name in forgotten]
        for first in range(0, max(len(rows), len(names), 1), MOVED_AT_ONCE):
            part = slice(first, first + MOVED_AT_ONCE)
            if not self._calls.run(
                "move_counts", {"moves": rows[part], "forgotten": names[part], "gone": other}, more_keys
            ):
                return False
            keep_alive()
        return True

    def heard(self, within: float) -> list[str]:
        found = self._calls.command("ZRANGEBYSCORE", self._keys.workers, self._now() - within * 1000, "+inf")
        return [name.decode("utf-8", "replace") for name in found]

    def gone(self, after: float) -> list[str]:
        until = self._now() - after * 1000
        found = self._calls.command("ZRANGEBYSCORE", self._keys.counting, "-inf", until, "LIMIT", 0, MAX_GONE)
        return [name.decode("utf-8", "replace") for name in found]

    # --- for the ticks ---------------------------------------------------------------------

    def unpublished(self) -> list[msgspec.Raw]:
        """Label sets for the next tick."""
        return [as_lua_string(name) for name in self._unpublished[:MAX_LABEL_SETS]]

    def ticked(self, reply: Sequence[Any]) -> LabelSets | None:
        """:param reply: the number of label sets, and some that were added, as the tick returned them."""
        if not reply:
            return None
        del self._unpublished[:MAX_LABEL_SETS]
        added = [LabelSet(name, float(score)) for name, score in zip(reply[1::2], reply[2::2], strict=True)]
        self.latest = max((one.added for one in added), default=self.latest)
        return LabelSets(reply[0], added)

    def _label_sets(self, keep_alive: Callable[[], None]) -> Iterator[list[LabelSet]]:
        after = "-inf"
        while True:
            flat = self._calls.command(
                *("ZRANGEBYSCORE", self._keys.label_sets, after, "+inf", "WITHSCORES", "LIMIT", 0, AT_ONCE)
            )
            piece = [LabelSet(name, float(score)) for name, score in zip(flat[::2], flat[1::2], strict=True)]
            yield [one for one in piece if math.isfinite(one.added)]
            keep_alive()
            if len(piece) < AT_ONCE:
                return
            after = f"({piece[-1].added}"

    def _fields(self, key: str, keep_alive: Callable[[], None]) -> Iterator[bytes]:
        cursor: bytes | int = 0
        while True:
            cursor, flat = self._calls.command("HSCAN", key, cursor, "COUNT", AT_ONCE)
            yield from flat
            keep_alive()
            if cursor in (b"0", 0):
                return

    def _now(self) -> int:
        seconds, microseconds = self._calls.command("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000
