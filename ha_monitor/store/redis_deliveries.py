"""Messages on their way to the channels, in Redis: see `deliveries.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.store import RedisStore


class RedisDeliveries:
    """See `deliveries.Deliveries`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def exchange(self, changes: Changes = Changes()) -> DeliveryState | None:  # noqa: B008 - it is immutable
        taken = [
            (one.claim.id, int(one.at * 1000), list(_flat(notified_by(one.claim, one.at)))) for one in changes.taken
        ]
        noted = {(incident, channel): Notified(at, Phase.PENDING, 0) for incident, channel, at in changes.noted}
        options = {
            "claimed": [text for one in changes.claimed for text in (one.id, as_lua_string(pack_claim(one)))],
            "taken": taken,
            "released": list(changes.released),
            "noted": list(_flat(noted)),
            "over": [field_of(*key) for key in changes.forgotten],
            "taken_kept": int(HOUR * 1000),
        }
        reply = self._store.run("deliveries", options)
        if reply is None:
            return None
        now, claims, notified, taken_at = reply
        return delivery_state(now / 1000, _pairs(claims), _pairs(notified), _pairs(taken_at))


def _flat(notified: Mapping[tuple[str, str], Notified]) -> Iterator[Any]:
    for key, one in notified.items():
        yield from (field_of(*key), as_lua_string(entry_of(one)))


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
