"""The counts of a store that counts nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ha_monitor.store.api import nothing
from ha_monitor.store.counts import Counts


class Calls(Protocol):
    """Makes calls, which may fail."""

    def call(self, name: str, work: Callable[[], Any]) -> Any:
        """Make a call with this name."""


class MemoryCounts:
    """See `api.CountStore`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.outdated = True
        self.stored = Counts()
        """The counts that a test has set."""

    def read(self, _keep_alive: Callable[[], None] = nothing) -> Counts:
        self._calls.call("counts", lambda: None)
        self.outdated = False
        return self.stored

    def read_of(self, _name: str, _keep_alive: Callable[[], None] = nothing) -> Counts:
        return Counts()

    def take_changes(self) -> list[bytes]:
        return []

    def make_room(self, room: int, reserve: int) -> None:
        pass

    def publish(self, label_sets: Sequence[bytes]) -> None:
        pass

    def restore(self, counts: Mapping[bytes, int], _keep_alive: Callable[[], None] = nothing) -> None:
        pass

    def move(
        self,
        _moves: Sequence[tuple[bytes, bytes]],
        _forgotten: Sequence[bytes] = (),
        _gone: tuple[str, float] | None = None,
        _keep_alive: Callable[[], None] = nothing,
    ) -> bool:
        return True

    def heard(self, _within: float) -> list[str]:
        return []

    def gone(self, _after: float) -> list[str]:
        return []
