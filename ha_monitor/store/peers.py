"""The other instances, as one instance finds them in Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ha_monitor.store.keys import Keys
from ha_monitor.store.packing import json_object
from ha_monitor.store.results import Peer

MAX_PEERS = 100
"""Instances that are looked at: those whose leases end last."""


def live_peers(ask: Callable[..., list[Any]], keys: Keys, own_token: int) -> list[Peer]:
    """The instances with a valid lease, without this one.

    :param ask: runs commands in one round trip, and returns their replies.
    """
    leases = ("ZREVRANGEBYSCORE", keys.leases, "+inf", "-inf", "WITHSCORES", "LIMIT", 0, MAX_PEERS)
    (seconds, microseconds), found = ask(("TIME",), leases)
    now = int(seconds) * 1000 + int(microseconds) // 1000
    rows = zip(found[::2], found[1::2], strict=True)
    live = [int(token) for token, until in rows if token.isdigit() and float(until) >= now]
    others = [token for token in live if token != own_token]
    entries = ask(*[("HMGET", keys.instance(token), "stats", "who") for token in others])
    return [Peer(token, json_object(one[0]), json_object(one[1])) for token, one in zip(others, entries, strict=True)]
