"""What a person says about groups of errors, in Redis: see `error_groups.ErrorMarks`."""

from __future__ import annotations

from typing import Any

from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.keys import Keys
from ha_monitor.store.scripts import read_script


class RedisErrorMarks:
    """See `error_groups.ErrorMarks`. Uses an open connection."""

    def __init__(self, connection: StoreConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    def resolve(self, group_id: str) -> bool:
        return self._mark(group_id, resolved=0)

    def ignore(self, group_id: str, seconds: float) -> bool:
        return self._mark(group_id, ignored=int(seconds * 1000), kept="resolved")

    def reopen(self, group_id: str) -> bool:
        return self._mark(group_id)

    def _mark(self, group_id: str, **changes: Any) -> bool:
        script = read_script("error_group")
        options = {"group": group_id, "prefix": self._keys.prefix, "resolved": None, "ignored": None, "kept": None}
        arguments = script.arguments(self._keys.shared(), {}, options | changes)
        return bool(self._connection.call("EVAL", script.source, *arguments) == 1)
