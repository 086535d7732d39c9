"""The query parameters of URLs: which exist, and what they mean.

A library ignores a parameter that it does not know, or fails with its own error at the first connection; a misspelt
`ssl_ca_certs` must not become a connection without TLS.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from ha_monitor.config.secrets import mask
from ha_monitor.config.urls import BAD_URL
from ha_monitor.errors import ConfigurationError

TLS = (
    *("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs"),
    *("ssl_check_hostname", "ssl_ciphers"),
)
"""Names and meanings are redis-py's."""
_LOGIN = ("username", "password")
_OF_SENTINELS = ("ssl", "sentinel_ssl", "sentinel_username", "sentinel_password")
_BY_CELERY = ("virtual_host", "credential_provider")
_CONNECTION = (
    *("client_name", "db", "health_check_interval", "max_connections", "retry_on_timeout"),
    *("socket_connect_timeout", "socket_keepalive", "socket_timeout"),
)
_KNOWN = {
    "store.url": {
        "redis": ("db", *_LOGIN),
        "rediss": ("db", *_LOGIN, *TLS),
        "unix": ("db", *_LOGIN),
        "sentinel": (*_OF_SENTINELS, *TLS),
    },
    "broker.url": {
        **dict.fromkeys(("amqp", "amqps", "pyamqp"), ("login_method",)),
        "redis": ("credential_provider",),
        "rediss": ("credential_provider", *TLS),
        **dict.fromkeys(("unix", "redis+socket"), _BY_CELERY),
        "sentinel": ("credential_provider", *_OF_SENTINELS, *TLS),
    },
    # The application's own URL; its timeouts block nothing here.
    "result_backend.url": {
        "redis": (*_BY_CELERY, *_CONNECTION),
        "rediss": (*_BY_CELERY, *_CONNECTION, *TLS),
        "sentinel": (*_BY_CELERY, *_CONNECTION, *_OF_SENTINELS, *TLS),
    },
}
"""By setting and scheme. URLs with other schemes, such as those of other result backends, are not checked."""
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_YES_OR_NO = ("ssl", "sentinel_ssl", "ssl_check_hostname")
_VERIFY = ("required", "optional", "none")
_HINTS = {
    **dict.fromkeys(
        ("amqp", "amqps", "pyamqp"),
        "; TLS is amqps:// and broker.tls, time-outs are broker.connect_timeout and broker.heartbeat",
    ),
    "redis": "; TLS is rediss://",
}
_NAME = re.compile(r"\w{1,40}", re.ASCII)


class Parameters(NamedTuple):
    """The parameters of one Redis or RabbitMQ URL. The sentinel URLs of one Redis share their parameters."""

    url: str
    """The URL without the parameters that are in the fields below."""
    tls: Mapping[str, Any] | None
    """redis-py's TLS options for the Redis itself; None if the URL asks for no TLS."""
    sentinels: Mapping[str, Any]
    """redis-py's arguments for a connection to a sentinel, besides its address and the timeouts."""


def parameters_of(key: str, url: str) -> Parameters:
    """Read the parameters of a URL.

    :param key: the setting, such as `store.url`.
    :raises ConfigurationError: if a parameter is unknown, or has an invalid value.
    """
    scheme = url.partition("://")[0].lower()
    known = _KNOWN.get(key, {}).get(scheme)
    if known is None:
        return Parameters(url, None, {})
    texts: dict[str, str] = {}
    parts = []
    for part in url.split(";") if scheme == "sentinel" else [url]:
        place, _, query = part.partition("?")
        found = dict(parse_qsl(query, keep_blank_values=True))
        if "@" in query or not all(map(_NAME.fullmatch, found)):
            # More likely a password that contains a ?.
            raise ConfigurationError(f"{key} = {mask(key, url)}: {BAD_URL}", key)
        texts |= found
        apart = (*TLS, *_OF_SENTINELS)
        left = {name: value for name, value in found.items() if name not in apart}
        parts.append(f"{place}?{urlencode(left)}" if left else place)
    try:
        values = _values(texts, known, _HINTS.get(scheme, ""))
        return Parameters(";".join(parts), *_tls(scheme, values))
    except ValueError as error:
        # A misspelt parameter may be a password: do not show its value.
        place = mask(key, url.partition("?")[0])
        raise ConfigurationError(f"{key} = {place}?…: {error}", key) from None


def _values(texts: Mapping[str, str], known: Collection[str], hint: str) -> dict[str, Any]:
    """:raises ValueError: that says what is wrong with a parameter."""
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            raise ValueError(f"unknown parameter {name}; known are {', '.join(sorted(known))}{hint}")
        if not text:
            raise ValueError(f"the parameter {name} has no value")
        value: Any = text
        if name in _YES_OR_NO:
            value = _BOOLEANS.get(text.lower())
            if value is None:
                raise ValueError(f"the parameter {name} is {text}; expected true or false")
        elif name == "ssl_cert_reqs":
            value = text.lower().removeprefix("cert_")
            if value not in _VERIFY:
                raise ValueError(f"the parameter {name} is {text}; expected one of {', '.join(_VERIFY)}")
        values[name] = value
    return values


def _tls(scheme: str, values: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The fields of `Parameters` about TLS and the sentinels.

    :raises ValueError: if TLS is disabled, but has options.
    """
    options = {name: values[name] for name in TLS if name in values}
    if scheme != "sentinel":
        return (options if scheme == "rediss" else None), {}
    by_tls = values.get("ssl", bool(options) or None)
    sentinels_by_tls = values.get("sentinel_ssl", by_tls)
    if options and not by_tls and not sentinels_by_tls:
        raise ValueError(f"ssl is false, and {' and '.join(options)} would be ignored")
    login = {name: values[f"sentinel_{name}"] for name in _LOGIN if f"sentinel_{name}" in values}
    sentinels = login if sentinels_by_tls is None else {**login, "ssl": sentinels_by_tls}
    return (options if by_tls else None), {**sentinels, **(options if sentinels_by_tls else {})}
