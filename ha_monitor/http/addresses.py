"""Addresses of clients. A socket that listens on `[::]` has those of IPv4 as `::ffff:192.0.2.7`: they are the same."""

from __future__ import annotations

import ipaddress

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip_of(text: str) -> IpAddress | None:
    """The address that a text is, without the scope of IPv6; None if it is none."""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return ip if isinstance(ip, ipaddress.IPv4Address) else ip.ipv4_mapped or ip


def shown(host: str) -> str:
    """The address of a client, as people and their configuration write it."""
    ip = ip_of(host)
    return str(ip) if isinstance(ip, ipaddress.IPv4Address) else host
