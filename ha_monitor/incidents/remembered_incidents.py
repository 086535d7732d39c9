"""The open incidents that a leader wrote, in case the store loses them. One that is seen again then is the same
incident, with the same ids in its lines and messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ha_monitor.incidents.catalogue import FLAP_WINDOW
from ha_monitor.store.incidents import Incident


class RememberedIncidents:
    """By kind and key. Another leader leaves resolved incidents in the store, so that they do not seem lost."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], tuple[Incident, float]] = {}

    def written(self, incidents: Iterable[Incident], removed: Iterable[str], now: float) -> None:
        """Note the incidents after a look.

        :param removed: ids of the incidents that are no longer kept.
        :param now: seconds since the epoch, by the store's clock.
        """
        over = {one.id for one in incidents if not one.is_open}.union(removed)
        lasting = {place: known for place, known in self._open.items() if known[0].id not in over}
        self._open = lasting | {(one.kind, one.key): (one, now) for one in incidents if one.is_open}

    def recently_open(self, now: float) -> Mapping[tuple[str, str], Incident]:
        """The incidents that were open so recently that a recurrence is the same incident."""
        return {place: one for place, (one, at) in self._open.items() if 0 <= now - at < FLAP_WINDOW}
