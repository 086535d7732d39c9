"""Addresses of clients. A socket that listens on `[::]` shows an IPv4 client as `::ffff:192.0.2.7`."""

from __future__ import annotations

import ipaddress

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip_of(text: str) -> IpAddress | None:
    """The address in a text, without the scope of IPv6; None if the text is not an address."""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return ip if isinstance(ip, ipaddress.IPv4Address) else ip.ipv4_mapped or ip


def shown(host: str) -> str:
    """The address of a client in the form in which people and their configuration write it."""
    ip = ip_of(host)
    return str(ip) if isinstance(ip, ipaddress.IPv4Address) else host
