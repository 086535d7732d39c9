"""Asks each sentinel whether a failed primary could be replaced: are there enough sentinels, and replicas?"""

from __future__ import annotations

import re
from typing import Any

import redis.exceptions

from ha_monitor.store.sentinel import connection_to_sentinel, reason_given
from ha_monitor.store.sentinel_url import Address, SentinelUrl, shown

_AWAY = re.compile(rb"s_down|o_down|disconnected")
_RIGHTS = "+sentinel|slaves +sentinel|ckquorum"
_CURE = "until then a failed primary is not replaced"


def problems_of(url: SentinelUrl, timeout: float) -> list[str]:
    """A sentence for each thing that prevents a fail-over, with the sentinels that report it; empty if nothing does.

    :param timeout: seconds for each step with each of them.
    """
    found: dict[str, list[str]] = {}
    for sentinel in url.sentinels:
        for problem in _told_by(sentinel, url, timeout):
            found.setdefault(problem, []).append(shown(sentinel))
    return [f"sentinel {', '.join(addresses)}: {problem}" for problem, addresses in found.items()]


def _told_by(sentinel: Address, url: SentinelUrl, timeout: float) -> list[str]:
    try:
        connection = connection_to_sentinel(url, sentinel, timeout)
        try:
            return _asked(connection, url.service)
        finally:
            connection.disconnect()
    except redis.exceptions.NoPermissionError:
        return [f"its user may not read its health; grant it: {_RIGHTS}"]
    except (redis.exceptions.RedisError, OSError) as error:
        if "No such master" in str(error):
            return [f"{reason_given(None, url.service)}; correct the name in store.url"]
        return [reason_given(error, url.service)]


def _asked(connection: Any, service: str) -> list[str]:
    problems = []
    connection.send_command("SENTINEL", "SLAVES", service)
    replicas = [dict(zip(one[::2], one[1::2], strict=False)) for one in connection.read_response()]
    living = [one for one in replicas if not _AWAY.search(one.get(b"flags", b""))]
    if not living:
        known = f"all {len(replicas)} replicas are down" if replicas else "there is no replica"
        problems.append(f"{known} of the service {service}: start one; {_CURE}")
    connection.send_command("SENTINEL", "CKQUORUM", service)
    try:
        connection.read_response()
    except redis.exceptions.ResponseError as error:
        if "NOQUORUM" not in str(error):
            raise
        counted = re.search(r"\d+ usable", str(error))
        problems.append(
            f"too few sentinels see each other ({counted[0] if counted else 'NOQUORUM'}) for the quorum of the service "
            f"{service}, or for a majority: start the others; {_CURE}"
        )
    return problems
