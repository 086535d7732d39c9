"""Broker URLs, and kombu connections made from them."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from kombu.connection import Connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from ha_monitor.config.schema import Broker
from ha_monitor.config.secrets import mask
from ha_monitor.config.urls import problem_of
from ha_monitor.errors import ConfigurationError

AMQP = frozenset({"amqp", "amqps", "pyamqp"})
REDIS = frozenset({"redis", "rediss", "sentinel", "unix", "redis+socket"})
_TLS = frozenset({"amqps", "rediss"})
_VERIFY = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower()


def urls_of(setting: str) -> list[str]:
    """The URLs of `broker.url`, in the order in which they are tried.

    A `sentinel://` setting is a single URL: there, as in kombu, `;` separates the sentinels of one Redis.

    :raises ConfigurationError: if one of them is invalid, or AMQP and Redis are mixed.
    """
    urls = [setting] if scheme_of(setting) == "sentinel" else [url.strip() for url in setting.split(";") if url.strip()]
    kinds = set()
    for url in urls:
        scheme = scheme_of(url)
        wrong_kind = "" if scheme in AMQP | REDIS else "expected amqp://, amqps://, redis://, rediss:// or sentinel://"
        if problem := wrong_kind or problem_of(url):
            raise ConfigurationError(f"broker.url = {mask('broker.url', url)}: {problem}", "broker.url")
        kinds.add(scheme in AMQP)
    if len(kinds) != 1:
        raise ConfigurationError("broker.url: expected brokers of one kind, not AMQP and Redis together", "broker.url")
    return urls


def is_amqp(setting: str) -> bool:
    """Whether `broker.url` names AMQP brokers."""
    return scheme_of(urls_of(setting)[0]) in AMQP


def address_of(url: str) -> str:
    """Host, port and path of a URL: what may be logged."""
    rest = url.partition("://")[2]
    return rest.rpartition("@")[2].partition("?")[0]


def connection_to(url: str, settings: Broker, *, transport: Any = None, options: dict[str, Any]) -> Connection:
    """A kombu connection, not yet connected: see `connect_once`.

    :param transport: a transport class to be used instead of kombu's own.
    :param options: transport options; those of the configuration win.
    """
    options = {**_timeouts(url, settings), **options, **settings.transport_options}
    if scheme_of(url) == "sentinel":
        options["sentinel_kwargs"] = {**_sentinel_timeouts(url, settings), **options.get("sentinel_kwargs", {})}
    return Connection(
        url.replace("redis+socket://", "unix://"),
        transport=transport,
        ssl=_tls(url, settings.tls),
        connect_timeout=settings.connect_timeout,
        heartbeat=settings.heartbeat,
        transport_options=options,
    )


def connect_once(client: Connection) -> Any:
    """Make one attempt to connect; returns the transport's own connection.

    kombu would connect by itself when needed, but retries after two seconds: if the broker does not answer, the
    instance could not renew its lease in time.
    """
    client.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    return client.connection


def _timeouts(url: str, settings: Broker) -> dict[str, Any]:
    if scheme_of(url) in AMQP:
        return {}  # kombu itself passes connect_timeout on
    return {"socket_connect_timeout": settings.connect_timeout, "socket_timeout": settings.connect_timeout}


def _sentinel_timeouts(url: str, settings: Broker) -> dict[str, Any]:
    # redis-py tries one after the other, by default up to four times each, and kombu makes it do so twice, for two
    # connection pools. All together share one timeout.
    share = settings.connect_timeout / (2 * len(url.rstrip(";").split(";")))
    return {"socket_connect_timeout": share, "socket_timeout": share, "retry": Retry(NoBackoff(), 0)}


def _tls(url: str, configured: dict[str, Any]) -> dict[str, Any] | bool:
    scheme = scheme_of(url)
    if scheme not in _TLS and not configured:
        return False
    # By default py-amqp and redis-py would accept any certificate.
    options: dict[str, Any] = {"cert_reqs": "required", **configured}
    verify = options["cert_reqs"]
    if not isinstance(verify, ssl.VerifyMode):
        try:
            options["cert_reqs"] = _VERIFY[str(verify).lower().removeprefix("cert_")]
        except KeyError:
            raise ConfigurationError(
                f"broker.tls.cert_reqs = {verify!r}: expected one of {', '.join(_VERIFY)}"
            ) from None
    if options["cert_reqs"] is ssl.CERT_NONE:
        # With a host name to check, a certificate would be required all the same.
        options.pop("server_hostname", None)
    elif scheme in AMQP:
        options.setdefault("server_hostname", urlsplit(url).hostname)
    if scheme not in AMQP:
        options = {key if key.startswith("ssl_") else f"ssl_{key}": value for key, value in options.items()}
    return options
