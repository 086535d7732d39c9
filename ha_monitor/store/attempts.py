"""How often the handling of a message has begun that the broker had delivered before; shared by all instances."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.store import RedisStore

KEEP = 24 * 3600
"""Seconds for which an attempt is remembered."""
MOST_KEPT = 100
"""Messages set aside that are kept for looking at."""


class RedisAttempts:
    """Counts the attempts at messages, each named by a text of its own. All raise `StoreUnavailable`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def begin(self, names: Sequence[str], below: int) -> list[int]:
        """Note that the handling of messages begins, of each only if it began fewer than `below` times so far.

        :returns: how often it had begun before, for each.
        """
        keys = list(map(self._store.keys.attempt, names))
        begun: list[int] = self._store.run("attempt", {"below": below, "keep": KEEP}, keys)
        return begun

    def succeeded(self, names: Sequence[str]) -> None:
        """Messages were merged: how often they were begun does not matter any more."""
        self._store.command("DEL", *map(self._store.keys.attempt, names))

    def set_aside(self, name: str, entry: bytes) -> None:
        """Keep what can be told of a message, as JSON; only the newest are kept."""
        self._store.run("set_aside", {"message": name, "told": as_lua_string(entry), "most_kept": MOST_KEPT})
