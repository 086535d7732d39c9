"""The dead letters in Redis: see `dead_letters.py`."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.dead_letters import KeptLetter, read_letter
from ha_monitor.store.keys import Keys
from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.scripts import read_script

AT_ONCE = 100
"""Letters that one call reads."""


class RedisDeadLetters:
    """See `dead_letters.DeadLetters`."""

    def __init__(self, connection: StoreConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    def newest(self) -> Iterator[KeptLetter]:
        first = 0
        while some := self._connection.call("LRANGE", self._keys.dead_letters, first, first + AT_ONCE - 1):
            yield from map(read_letter, some)
            first += len(some)

    def retry(self, kept: KeptLetter) -> bool:
        return self._take(kept, kept.letter.entry)

    def drop(self, kept: KeptLetter) -> bool:
        return self._take(kept, b"")

    def _take(self, kept: KeptLetter, entry: bytes) -> bool:
        script = read_script("take_letter")
        options = {"letter": as_lua_string(kept.raw), "entry": as_lua_string(entry)}
        return bool(self._connection.call("EVAL", script.source, *script.arguments(self._keys.shared(), {}, options)))
