"""Reads the schedule of celery-redbeat from its Redis. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from ha_monitor.config.schedules import RedBeat
from ha_monitor.config.schema import StoreSettings
from ha_monitor.errors import ConfigurationError, StoreUnavailable
from ha_monitor.schedules.model import MAX_SCHEDULES
from ha_monitor.store.connection import StoreConnection

AT_ONCE = 100
"""Entries that one round trip reads."""
FIELD = "definition"
"""The field of an entry that says what it is. The other one, `meta`, says when it last ran."""
MAX_LENGTH = 100_000
"""Bytes of a field: RedBeat writes none longer than that."""


class RedBeatReader:
    """Connects for each reading, which is once in many minutes."""

    def __init__(self, settings: RedBeat) -> None:
        self._settings = settings

    def read(self) -> Mapping[str, Mapping[str, str]]:
        """The entries as hashes, by their keys: those with a due time, at most a thousand.

        :raises StoreUnavailable: if it cannot be read; the message names the setting.
        """
        connection = StoreConnection(StoreSettings(url=self._settings.url))
        try:
            connection.connect()
            return self._read(connection)
        except (StoreUnavailable, ConfigurationError) as error:
            # The error names the setting of the store, whose connection code is used here.
            raise StoreUnavailable(str(error).replace("store.url", "redbeat.url"), lasting=False) from None
        finally:
            connection.close()

    def _read(self, connection: StoreConnection) -> Mapping[str, Mapping[str, str]]:
        keys = connection.call("ZRANGE", f"{self._settings.prefix}:schedule", 0, MAX_SCHEDULES - 1)
        found: dict[str, Mapping[str, str]] = {}
        for first in range(0, len(keys), AT_ONCE):
            some = keys[first : first + AT_ONCE]
            rows = connection.call_all(*(("HGET", key, FIELD) for key in some))
            for key, raw in zip(some, rows, strict=True):
                found[_text(key)] = {FIELD: _text(raw)} if raw and len(raw) <= MAX_LENGTH else {}
        return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
