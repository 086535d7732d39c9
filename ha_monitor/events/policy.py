"""Which events leave the monitor: as a line, to a handler, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.types import level_of

_ORDER = list(LogLevel)


class EmissionPolicy:
    """Decides by event type. An event that nobody wants is merged but never put into an outbox."""

    def __init__(self, level: LogLevel, handled_types: Iterable[str]) -> None:
        """
        :param level: least level that is written as a line.
        :param handled_types: types that have a handler; `*` stands for all.
        """
        self._least = _ORDER.index(level)
        self._handled = frozenset(handled_types)
        self._emits: dict[str, bool] = {}

    def writes(self, event_type: str) -> bool:
        """Whether such an event is written as a line."""
        return _ORDER.index(level_of(event_type)) >= self._least

    def emits(self, event_type: str) -> bool:
        """Whether such an event leaves at all. Called for every event, hence the cache of known types."""
        known = self._emits.get(event_type)
        if known is None:
            known = self.writes(event_type) or event_type in self._handled or "*" in self._handled
            # Types come from the network: an endless number of them must not fill the memory.
            if len(self._emits) < 1000:
                self._emits[event_type] = known
        return known
