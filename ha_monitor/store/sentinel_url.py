"""Store URLs that name sentinels, which in turn name the Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis.connection

from ha_monitor.config.parameters import parameters_of
from ha_monitor.config.secrets import mask
from ha_monitor.config.urls import can_be_host
from ha_monitor.errors import ConfigurationError

DEFAULT_PORT = 26379
_KEY = "store.url"
_SCHEME = "sentinel://"

Address = tuple[str, int]


class SentinelUrl(NamedTuple):
    """The parts of a `store.url` that names sentinels."""

    sentinels: tuple[Address, ...]
    service: str
    """The name by which the sentinels know the Redis."""
    primary: Mapping[str, Any]
    """Arguments of `open_connection` for the Redis, besides its address and the timeouts."""
    to_sentinels: Mapping[str, Any]
    """The same for a sentinel."""


def is_sentinel_url(url: str) -> bool:
    """Whether a `store.url` names sentinels."""
    return url.startswith(_SCHEME)


def parse_sentinel_url(url: str) -> SentinelUrl:
    """The parts of `sentinel://[[user]:password@]host[:port],host[:port]/service[/db][?parameters]`.

    User and password are for the Redis.

    :raises ConfigurationError: if a part is missing or wrong.
    """
    parameters = parameters_of(_KEY, url)
    hosts, _, path = parameters.url.removeprefix(_SCHEME).partition("/")
    user_info, _, hosts = hosts.rpartition("@")
    service, _, database = path.strip("/").partition("/")
    try:
        sentinels = tuple(dict.fromkeys(_address(address) for address in hosts.split(",") if address))
        primary: dict[str, Any] = {"db": int(database or 0)}
    except ValueError:
        sentinels, primary = (), {}
    if not sentinels or not service:
        raise ConfigurationError(
            f"{_KEY} = {mask(_KEY, url)}: expected sentinel://host:26379,host:26379/service/db", _KEY
        )
    user, _, password = user_info.partition(":")
    if user:
        primary["username"] = unquote(user)
    if password:
        primary["password"] = unquote(password)
    if parameters.tls is not None:
        primary |= {"ssl": True, **parameters.tls}
    return SentinelUrl(sentinels, service, primary, parameters.sentinels)


def open_connection(address: Address, options: Mapping[str, Any]) -> Any:
    """redis-py's object for a connection, which is not connected yet.

    :param options: its arguments; `ssl` says whether it uses TLS.
    """
    rest = dict(options)
    kind: Any = redis.connection.SSLConnection if rest.pop("ssl", False) else redis.connection.Connection
    return kind(host=address[0], port=address[1], **rest)


def shown(address: Address) -> str:
    """Host and port as in a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> Address:
    """:raises ValueError: if it is not an address."""
    # Each separately: together with others, IPv6 addresses would not form a valid URL.
    parts = urlsplit(f"//{text}")
    port = DEFAULT_PORT if parts.port is None else parts.port
    if not port or not parts.hostname or not can_be_host(parts.hostname) or parts.path or parts.query or parts.fragment:
        raise ValueError(text)
    return parts.hostname, port
