"""Messages on their way to the channels: see `deliveries.py`."""

from __future__ import annotations

from ha_monitor.store.deliveries import (
    HOUR,
    Changes,
    DeliveryState,
    delivery_state,
    entry_of,
    field_of,
    notified_by,
    pack_claim,
)
from ha_monitor.store.incidents import Notified, Phase
from ha_monitor.store.memory.server import MemoryInstance
from ha_monitor.store.memory.store import MemoryStore


class MemoryDeliveries:
    """See `deliveries.Deliveries`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._server = store.server

    def exchange(self, changes: Changes = Changes()) -> DeliveryState | None:  # noqa: B008 - it is immutable
        def exchanged(_own: MemoryInstance) -> DeliveryState | None:
            if not self._store.leads():
                return None
            kept, now = self._server.messages, self._server.clock.time()
            for one in changes.taken:
                if one.claim.id.encode() in kept.claims:
                    notified = notified_by(one.claim, one.at)
                    kept.notified |= {field_of(*key).encode(): entry_of(known) for key, known in notified.items()}
                    kept.taken[one.claim.id.encode()] = b"%d" % int(one.at * 1000)
                    del kept.claims[one.claim.id.encode()]
            for claim_id in changes.released:
                kept.claims.pop(claim_id.encode(), None)
            for incident, channel, at in changes.noted:
                kept.notified[field_of(incident, channel).encode()] = entry_of(Notified(at, Phase.PENDING, 0))
            kept.claims |= {claim.id.encode(): pack_claim(claim) for claim in changes.claimed}
            for key in changes.forgotten:
                kept.notified.pop(field_of(*key).encode(), None)
            kept.taken = {name: at for name, at in kept.taken.items() if int(at) > (now - HOUR) * 1000}
            return delivery_state(now, kept.claims, kept.notified, kept.taken)

        return self._store.own_call("deliveries", exchanged)
