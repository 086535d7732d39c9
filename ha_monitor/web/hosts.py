"""The names by which the pages may be asked for. Another one is that of a page that has made itself an address of this
server (DNS rebinding), so that a browser lets it read what is here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

LOCAL = "localhost"


class Hosts:
    """Knows the names. An address is no name, so nobody else can have made it his own."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().rstrip(".") for name in names if name} | {LOCAL}

    def knows(self, header: str | None) -> bool:
        """Whether the field Host names one. Without it, it is no browser that asks."""
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
