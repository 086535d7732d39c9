"""The host names under which the pages may be requested. Any other name may belong to a foreign page whose domain
points to this server's address (DNS rebinding), so that a browser would let it read the pages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

LOCAL = "localhost"


class Hosts:
    """Checks host names. A literal address is always allowed: no foreign domain can be one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().rstrip(".") for name in names if name} | {LOCAL}

    def knows(self, header: str | None) -> bool:
        """Whether the Host header has an allowed name. A client that sends none is not a browser."""
        if header is None:
            return True
        host = header.strip().lower()
        if host.startswith("["):
            host = host[1:].partition("]")[0]
        elif host.count(":") == 1:
            host = host.partition(":")[0]
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host.rstrip(".") in self._names
        return True
