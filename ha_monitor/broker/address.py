"""Broker URLs, and kombu connections made from them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import amqp.exceptions
import redis.exceptions
from kombu.connection import Connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from ha_monitor.causes.connection import cause_of
from ha_monitor.causes.service import Service
from ha_monitor.config.parameters import Parameters, parameters_of
from ha_monitor.config.schema import Broker, Config
from ha_monitor.config.secrets import mask
from ha_monitor.config.urls import address_of, problem_of, scheme_of
from ha_monitor.errors import BrokerUnavailable, ConfigurationError

AMQP = frozenset({"amqp", "amqps", "pyamqp"})
REDIS = frozenset({"redis", "rediss", "sentinel", "unix", "redis+socket"})
Answer = TypeVar("Answer")
_TLS = frozenset({"amqps", "rediss"})
_UNKNOWN_OPTION = re.compile(r"unexpected keyword argument '(\w+)'")
_UNREACHED = (OSError, amqp.exceptions.UnexpectedFrame, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
_VERIFY = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def urls_of(setting: str) -> list[str]:
    """The URLs of `broker.url`, in the order in which they are tried.

    A `sentinel://` setting is a single URL: in it, as in kombu, `;` separates the sentinels of one Redis.

    :raises ConfigurationError: if one of them is invalid, or AMQP and Redis are mixed.
    """
    urls = [setting] if scheme_of(setting) == "sentinel" else [url.strip() for url in setting.split(";") if url.strip()]
    kinds = set()
    for url in urls:
        scheme = scheme_of(url)
        wrong_kind = "" if scheme in AMQP | REDIS else "expected amqp://, amqps://, redis://, rediss:// or sentinel://"
        if problem := wrong_kind or problem_of(url):
            raise ConfigurationError(f"broker.url = {mask('broker.url', url)}: {problem}", "broker.url")
        parameters_of("broker.url", url)
        kinds.add(scheme in AMQP)
    if len(kinds) != 1:
        raise ConfigurationError("broker.url: expected brokers of one kind, not AMQP and Redis together", "broker.url")
    return urls


def first_answer(config: Config, ask: Callable[[str], Answer]) -> Answer:
    """The answer of the first broker in `broker.url` that can be used.

    :param ask: asks one broker, given its URL.
    :raises BrokerUnavailable: if none can be used.
    """
    problem = BrokerUnavailable("no broker")
    for url in urls_of(config.broker.url):
        try:
            return ask(url)
        except BrokerUnavailable as error:
            problem = error
    raise problem


def is_amqp(setting: str) -> bool:
    """Whether `broker.url` names AMQP brokers."""
    return scheme_of(urls_of(setting)[0]) in AMQP


def connection_to(url: str, settings: Broker, *, transport: Any = None, options: dict[str, Any]) -> Connection:
    """A kombu connection, not yet connected: see `connect_once`.

    :param transport: a transport class to use instead of kombu's own.
    :param options: transport options; the configured ones take precedence.
    :raises ConfigurationError: if parameters of the URL, or options for TLS, cannot be used.
    """
    options = {**_timeouts(url, settings), **options, **settings.transport_options}
    parameters = parameters_of("broker.url", url)
    tls = _tls(url, settings.tls, parameters)
    if scheme_of(url) == "sentinel":
        options["sentinel_kwargs"] = {
            **_sentinel_timeouts(url, settings),
            **_to_sentinels(tls, parameters),
            **options.get("sentinel_kwargs", {}),
        }
    return Connection(
        parameters.url.replace("unix://", "redis+socket://"),
        transport=transport,
        ssl=tls,
        connect_timeout=settings.connect_timeout,
        heartbeat=settings.heartbeat,
        transport_options=options,
    )


def connect_once(client: Connection, url: str, settings: Broker) -> Any:
    """Make one attempt to connect; returns the transport's own connection.

    kombu would connect by itself when needed, but it retries after two seconds: if the broker did not answer, the
    instance could not renew its lease in time.

    :param url: the URL that the connection was made for.
    :raises BrokerUnavailable: if the broker could not be reached. If the broker refuses something, the library's error
        is raised as it is.
    :raises ConfigurationError: naming an option that the library does not know.
    """
    try:
        client.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        return client.connection
    except TypeError as error:
        if (unknown := _UNKNOWN_OPTION.search(str(error))) is None:
            raise
        raise ConfigurationError(f"{_place_of(unknown[1], settings)}: unknown option", "broker.tls") from None
    except redis.exceptions.AuthenticationError:
        raise
    except _UNREACHED as error:
        cause = cause_of(error, service_of(url, settings), connecting=True)
        raise BrokerUnavailable(f"{address_of(url)}: {cause.text}", lasting=cause.lasting) from None


def _place_of(option: str, settings: Broker) -> str:
    for name in (option, option.removeprefix("ssl_")):
        if name in settings.tls:
            return f"broker.tls.{name}"
    return f"broker.transport_options.{option}" if option in settings.transport_options else f"{option} in broker.url"


def service_of(url: str, settings: Broker) -> Service:
    """Describes a broker for the texts of errors about it."""
    return Service("broker.url", url, "broker.connect_timeout", settings.connect_timeout, settings.tls, "broker.tls")


def _timeouts(url: str, settings: Broker) -> dict[str, Any]:
    if scheme_of(url) in AMQP:
        return {}  # kombu itself passes connect_timeout on
    return {"socket_connect_timeout": settings.connect_timeout, "socket_timeout": settings.connect_timeout}


def _sentinel_timeouts(url: str, settings: Broker) -> dict[str, Any]:
    # redis-py tries the sentinels one after the other, by default up to four times each, and kombu makes it do so
    # twice, for two connection pools. All these attempts share one timeout.
    share = settings.connect_timeout / (2 * len(url.rstrip(";").split(";")))
    return {"socket_connect_timeout": share, "socket_timeout": share, "retry": Retry(NoBackoff(), 0)}


def _to_sentinels(tls: dict[str, Any] | bool, parameters: Parameters) -> dict[str, Any]:
    """redis-py's options for the sentinels: TLS as for the Redis that they name, unless the URL says otherwise."""
    if not tls or parameters.sentinels.get("ssl") is False:
        return dict(parameters.sentinels)
    return {"ssl": True, **(tls if isinstance(tls, dict) else {}), **parameters.sentinels}


def _tls(url: str, configured: dict[str, Any], parameters: Parameters) -> dict[str, Any] | bool:
    scheme = scheme_of(url)
    if scheme not in _TLS and not configured and parameters.tls is None:
        return False
    # By default py-amqp and redis-py would accept any certificate.
    options: dict[str, Any] = {"cert_reqs": "required", **configured}
    options |= {name.removeprefix("ssl_"): value for name, value in (parameters.tls or {}).items()}
    verify = options["cert_reqs"]
    if not isinstance(verify, ssl.VerifyMode):
        try:
            options["cert_reqs"] = _VERIFY[str(verify).lower().removeprefix("cert_")]
        except KeyError:
            raise ConfigurationError(
                f"broker.tls.cert_reqs = {verify!r}: expected one of {', '.join(_VERIFY)}"
            ) from None
    if options["cert_reqs"] is ssl.CERT_NONE:
        # With a host name to check, a certificate would be required nevertheless.
        options.pop("server_hostname", None)
    elif scheme in AMQP:
        options.setdefault("server_hostname", urlsplit(url).hostname)
    if scheme not in AMQP:
        options = {key if key.startswith("ssl_") else f"ssl_{key}": value for key, value in options.items()}
    return options
