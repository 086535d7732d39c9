"""Whether all instances of one `node_id` consume from the same broker.

Those that do not would share one record of two applications: the leader asks the workers of its own broker only, and
would call the tasks of the others' orphaned.
"""

from __future__ import annotations

from ha_monitor.errors import BrokerUnavailable
from ha_monitor.pipeline.stats import CONSUMING, Stats
from ha_monitor.store.api import Store


class Peers:
    """Compares the broker of this instance with those of the others."""

    def __init__(self, store: Store, stats: Stats, node_id: str) -> None:
        self._store = store
        self._stats = stats
        self._node_id = node_id

    def check(self, place: str, *, older_only: bool = False) -> None:
        """Compare with the instances that consume.

        :param place: of the broker to consume from; `Source.place`.
        :param older_only: compare with those that registered earlier: of two that began at once, the later one yields.
        :raises BrokerUnavailable: if another one consumes elsewhere. Waiting helps: that one may be about to stop.
        :raises StoreUnavailable: as `store/api.py` says.
        """
        if not place:
            return
        if not self._store.connected:
            return  # as with Redis as the broker while the store is unavailable; the next check comes
        for peer in self._store.peers():
            theirs = peer.stats.get("place")
            if peer.stats.get("state") != CONSUMING or not theirs or theirs == place:
                continue
            if not older_only or peer.token < self._store.token:
                raise BrokerUnavailable(
                    f"another instance of node_id {self._node_id} consumes from {theirs}, this one would from {place}: "
                    "give the instances of each broker a node_id of their own"
                )
        self._stats.place = place
