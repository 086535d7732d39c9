"""Which events are emitted: as a line, to a handler, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.types import LEVELS, level_of

_ORDER = list(LogLevel)


class EmissionPolicy:
    """Decides by event type. An event that is not emitted is merged but never put into an outbox.

    It stores decisions for known types, and a single one for all others, since anybody may invent types.
    """

    def __init__(self, level: LogLevel, handled_types: Iterable[str]) -> None:
        """
        :param level: minimum log level.
        :param handled_types: types that have a handler; `*` stands for all.
        """
        self._least = _ORDER.index(level)
        handled = frozenset(handled_types)
        self._emits = {kind: kind in handled or "*" in handled or self.writes(kind) for kind in {*LEVELS, *handled}}
        self._emits_others = "*" in handled or self.writes("")

    def writes(self, event_type: str) -> bool:
        """Whether such an event is written as a line."""
        return _ORDER.index(level_of(event_type)) >= self._least

    def emits(self, event_type: str) -> bool:
        """Whether such an event is emitted at all. Called for every event."""
        return self._emits.get(event_type, self._emits_others)
