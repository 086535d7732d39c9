"""Who may read: everybody on this machine, whoever knows the password, or whom a trusted proxy has signed in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus

from ha_monitor.clock import Clock
from ha_monitor.config.web import Web
from ha_monitor.errors import ConfigurationError
from ha_monitor.http.addresses import ip_of, shown
from ha_monitor.http.exchange import Reply, Request, text
from ha_monitor.http.listening import host_and_port
from ha_monitor.http.passwords import WINDOW, PasswordResult, Passwords

CHALLENGE = ("WWW-Authenticate", 'Basic realm="ha-monitor", charset="UTF-8"')
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WITH_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<ipv4>[0-9.]+))(?::[0-9]{1,5})?", re.ASCII)


class SignIn:
    """Refuses clients that may not read."""

    def __init__(self, settings: Web, clock: Clock, failed: Callable[[str], None]) -> None:
        """:param failed: called with the client's address after a wrong password.

        :raises ConfigurationError: if a proxy is not a valid address or network.
        """
        self._user_header = settings.user_header.lower()
        self._proxies = networks_of(settings.proxies)
        self._passwords = Passwords(settings.username, settings.password, clock, failed) if settings.username else None

    def refusal(self, request: Request, address: str) -> Reply | None:
        """The reply to a client that may not read; None if it may.

        :param address: of the client.
        """
        if not self._user_header and self._passwords is None:
            return None
        is_proxy = within(address, self._proxies)
        if self._user_header and is_proxy and request.headers.get(self._user_header, "").strip():
            return None
        if self._passwords is None:
            return text(HTTPStatus.FORBIDDEN, "not signed in; use the address of the sign-in proxy\n")
        if is_proxy:
            address = self._behind(request.headers.get("x-forwarded-for", "")) or address
        result = self._passwords.check(request.headers.get("authorization"), address)
        if result is PasswordResult.RIGHT:
            return None
        if result is PasswordResult.TOO_MANY:
            again = ("Retry-After", f"{WINDOW:.0f}")
            return text(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong passwords; try again later\n", again)
        return text(HTTPStatus.UNAUTHORIZED, "user name and password required\n", CHALLENGE)

    def _behind(self, forwarded: str) -> str:
        """The client behind the proxies: the last address that is not a proxy's."""
        for part in reversed(forwarded.split(",")):
            try:
                found = shown(str(ipaddress.ip_address(_without_port(part.strip()))))
            except ValueError:
                return ""
            if not within(found, self._proxies):
                return found
        return ""


def _without_port(text: str) -> str:
    """An entry of `X-Forwarded-For` without the port that some proxies add, and without the brackets of IPv6."""
    found = _WITH_PORT.fullmatch(text)
    return text if found is None else found["ipv6"] or found["ipv4"]


def networks_of(texts: Sequence[str]) -> list[Network]:
    """The addresses and networks that the texts stand for.

    :raises ConfigurationError: if a text is not a valid one.
    """
    found = []
    for one in texts:
        try:
            found.append(_unmapped(ipaddress.ip_network(one, strict=False)))
        except ValueError as error:
            raise ConfigurationError(f"web.proxies: {error}", "web.proxies") from None
    return found


def _unmapped(network: Network) -> Network:
    """The network in a text; `::ffff:192.0.2.0/120` as the IPv4 network that it is."""
    ip = ip_of(str(network.network_address))
    if network.version == 4 or network.prefixlen < 96 or not isinstance(ip, ipaddress.IPv4Address):
        return network
    return ipaddress.IPv4Network((ip, network.prefixlen - 96))


def within(address: str, networks: list[Network]) -> bool:
    """Whether an address is in one of the networks."""
    ip = ip_of(address)
    return ip is not None and any(ip in network for network in networks)


def require_sign_in(settings: Web) -> tuple[str, int]:
    """Check that no unauthorized client can read from elsewhere; returns the host and port to listen on.

    :raises ConfigurationError: if everybody could read, or nobody could.
    """
    address = host_and_port(settings.listen)
    if address is None:
        raise ConfigurationError(f"web.listen = {settings.listen}: expected a port up to 65535", "web.listen")
    networks_of(settings.proxies)
    if settings.user_header and not settings.proxies:
        raise ConfigurationError(
            "web.user_header: expected web.proxies, too: the addresses of those whose header is believed",
            "web.user_header",
        )
    if settings.username or settings.user_header or is_loopback(address[0]):
        return address
    raise ConfigurationError(
        f"web.listen = {settings.listen}: beyond loopback the pages need a sign-in: set web.username and "
        "web.password, or web.user_header and web.proxies",
        "web.listen",
    )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached only from this machine."""
    ip = ip_of(host)
    return host.lower() == "localhost" if ip is None else ip.is_loopback
