"""A call of a connection that was given up, which the network delivers after the next one is in use."""

from __future__ import annotations

import copy

import pytest

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.errors import LeaseLost
from ha_monitor.store.store import RedisStore
from tests.unit.builders import decode, event


def test_a_late_call_is_shut_out(store_url: str) -> None:
    """Given an instance that recovered on a new connection, when a call of the old one arrives, it is refused, so that
    the batch, which the broker delivers again, is announced.
    """
    store = RedisStore(StoreSettings(url=store_url, lease=60.0), "tests", SystemClock())
    store.connect()
    store.register({"instance": "1"})
    before = copy.copy(store)
    before._lease = copy.copy(store._lease)  # what a call of now carries
    store.connect()
    assert store.recover().items == []
    before.connect()  # what it sends arrives now, whichever connection it went into

    before.send_apply(decode(event("worker-online")))
    with pytest.raises(LeaseLost, match="whose reply was lost"):
        before.receive_apply()

    store.send_apply(decode(event("worker-online")))
    assert [item.entry.event.type for item in store.receive_apply().items] == ["worker-online"]
