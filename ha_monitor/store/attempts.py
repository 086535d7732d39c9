"""How often the handling of a redelivered message has begun; shared by all instances."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.store import RedisStore

ATTEMPT_TTL = 24 * 3600
"""Seconds for which an attempt is remembered."""
MAX_SET_ASIDE = 100
"""Messages set aside that are kept for inspection."""


class RedisAttempts:
    """Counts the attempts at messages, each identified by a name. Every method raises `StoreUnavailable`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def begin(self, names: Sequence[str], below: int) -> list[int]:
        """Note that the handling of these messages begins, for each that has begun fewer than `below` times.

        :returns: for each message how often its handling had begun before.
        """
        keys = list(map(self._store.keys.attempt, names))
        begun: list[int] = self._store.run("attempt", {"below": below, "keep": ATTEMPT_TTL}, keys)
        return begun

    def succeeded(self, names: Sequence[str]) -> None:
        """The messages were merged: their attempts no longer matter."""
        self._store.command("DEL", *map(self._store.keys.attempt, names))

    def set_aside(self, name: str, entry: bytes) -> None:
        """Keep a report on a message, as JSON; only the newest are kept."""
        self._store.run("set_aside", {"message": name, "failure": as_lua_string(entry), "most_kept": MAX_SET_ASIDE})
