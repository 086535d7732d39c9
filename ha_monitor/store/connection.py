"""One connection to Redis, and the place where redis-py's errors become the program's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
import redis.connection
import redis.exceptions
import redis.sentinel

from ha_monitor.clock import Clock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.config.secrets import mask
from ha_monitor.config.urls import BAD_URL, can_be_host, problem_of
from ha_monitor.errors import ConfigurationError, LeaseLost, StoreRefused, StoreUnavailable, is_lasting
from ha_monitor.rights import redis as rights
from ha_monitor.store.scripts import command_at
from ha_monitor.store.sentinel import Address, SentinelWatch
from ha_monitor.text.visible import visible

MAX_PORT = 65_535
_HINTS = {
    "READONLY": "this is a replica; name the primary, or use a sentinel:// URL",
    "OOM": "Redis is at its maxmemory; give it more, or shorten store.success_ttl",
    "MISCONF": "Redis cannot save to disk and refuses writes",
}

NO_SUCH_DATABASE = "DB index is out of range"
"""Redis's own words."""


class StoreConnection:
    """A connection on which a command can be under way while the caller does something else.

    redis-py's client object waits for each reply; its connection object, used here, keeps writing and reading
    apart. Not thread-safe. A failure of any kind closes the connection, since a late reply would be taken for
    that of the next command.
    """

    def __init__(self, settings: StoreSettings, clock: Clock | None = None) -> None:
        """:param clock: by which the sentinels are asked again, if `store.url` names some; None for never."""
        self._settings = settings
        self._clock = clock
        self._connection: Any = None
        self._primary: Address | None = None
        """The Redis that the sentinels named when this connection was made."""
        self._watch: SentinelWatch | None = None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def validate(self) -> None:
        """See whether `store.url` could ever be used, without connecting.

        :raises ConfigurationError: if not.
        """
        if is_sentinel_url(self._settings.url):
            parse_sentinel_url(self._settings.url)
        else:
            self._make()  # an object of redis-py, which connects when it is told to

    def connect(self) -> None:
        """Connect anew; blocks for at most `store.timeout`, with Sentinel for that long a sentinel.

        :raises StoreUnavailable: if there is no usable Redis at the moment.
        :raises ConfigurationError: if `store.url` names none that could ever be used.
        """
        self.close()
        with translated_errors(self._settings):
            connection = self._make()
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
            self._connection = connection

    def close(self) -> None:
        """Close the connection, if there is one. Never raises."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
        if self._watch is not None:
            self._watch.close()

    def verify_primary(self) -> None:
        """Leave a Redis that is not the one any more that the sentinels name, though it may still take writes.

        :raises StoreUnavailable: if they name another one; the connection is closed.
        """
        if self._watch is None or self._connection is None:
            return
        named = self._watch.primary()
        if named is None or named == self._primary:
            return
        # One sentinel alone may be behind: what counts is whom the next attempt to connect would find.
        with self._closing_on_error():
            named = self._find_primary()
        if named != self._primary:
            self.close()
            raise StoreUnavailable(f"Redis: the sentinels name another primary now: {named[0]}:{named[1]}")

    def send(self, *command: Any) -> None:
        """Write a command; its reply must be fetched by `receive`, in order.

        :raises StoreUnavailable: if the connection is down or breaks.
        """
        if self._connection is None:
            raise StoreUnavailable("not connected to Redis")
        with self._closing_on_error():
            self._connection.send_command(*command)

    def receive(self) -> Any:
        """The reply to the oldest command without one; blocks for at most `store.timeout`.

        :raises StoreUnavailable: if the connection is down, breaks, or Redis refuses the command.
        :raises LeaseLost: if a script says so.
        """
        if self._connection is None:
            raise StoreUnavailable("not connected to Redis")
        with self._closing_on_error():
            return self._connection.read_response()

    def call(self, *command: Any) -> Any:
        """Send a command and wait for its reply. Raises as `send` and `receive` do."""
        self.send(*command)
        try:
            return self.receive()
        except StoreRefused as error:
            if "WRONGTYPE" in str(error) and not str(command[0]).startswith("EVAL"):
                raise StoreRefused(f"{error}: {command[1]}", lasting=error.lasting) from None
            raise

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            with translated_errors(self._settings):
                yield
        except LeaseLost:
            raise  # the reply was read: the connection is in order
        except BaseException:
            self.close()
            raise

    def _make(self) -> Any:
        url = self._settings.url
        options: dict[str, Any] = {
            "socket_timeout": self._settings.timeout,
            "socket_connect_timeout": self._settings.timeout,
            "socket_keepalive": True,
            "protocol": 2,
            "client_name": "ha-monitor",
        }
        if is_sentinel_url(url):
            return self._by_sentinel(options)
        try:
            parsed: dict[str, Any] = redis.connection.parse_url(url)
        except ValueError as error:
            known = any(words in str(error) for words in ("scheme", "Invalid value for"))
            reason = str(error) if known else problem_of(url) or BAD_URL
            raise _wrong(url, reason) from None
        if problem := problem_of(url):
            raise _wrong(url, problem)
        kind = parsed.pop("connection_class", redis.connection.Connection)
        if kind is redis.connection.UnixDomainSocketConnection:
            del options["socket_keepalive"]
        try:
            return kind(**{**options, **parsed})
        except TypeError as error:
            raise _wrong(url, str(error)) from None

    def _by_sentinel(self, options: dict[str, Any]) -> Any:
        sentinels, service, parsed = parse_sentinel_url(self._settings.url)
        self._primary = host, port = self._find_primary()
        if self._clock is not None and self._watch is None:
            self._watch = SentinelWatch(sentinels, service, self._clock)
        return redis.connection.Connection(host=host, port=port, **options, **parsed)

    def _find_primary(self) -> Address:
        """Whom the first sentinel names that answers."""
        sentinels, service, _ = parse_sentinel_url(self._settings.url)
        timeout = self._settings.timeout
        # The sentinels get no password: where they have one of their own, it is rarely that of the data.
        finder = redis.sentinel.Sentinel(
            sentinels, sentinel_kwargs={"socket_timeout": timeout, "socket_connect_timeout": timeout}
        )
        host, port = finder.discover_master(service)
        return str(host), int(port)


def _wrong(url: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"store.url = {mask('store.url', url)}: {reason}", "store.url")


def is_sentinel_url(url: str) -> bool:
    """Whether a `store.url` names sentinels, which name the Redis."""
    return url.startswith("sentinel://")


def parse_sentinel_url(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """The parts of `sentinel://[[user]:password@]host[:port],host[:port]/service[/db]`.

    :returns: the sentinels' addresses, the service's name, and username, password and db for the primary.
    :raises ConfigurationError: if a part is missing or wrong.
    """
    parts = urlsplit(url)
    user_info, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    try:
        sentinels = []
        for address in filter(None, hosts.split(",")):
            host, _, port = address.partition(":")
            if not can_be_host(host):
                raise ValueError(host)
            sentinels.append((host, _port(port or "26379")))
        options: dict[str, Any] = {"db": int(database or 0)}
    except ValueError:
        sentinels = []
        options = {}
    if not sentinels or not service:
        raise _wrong(url, "expected sentinel://host:26379,host:26379/service/db")
    user, _, password = user_info.partition(":")
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    return sentinels, service, options


def _port(text: str) -> int:
    """:raises ValueError: if it is no port."""
    if not 0 < int(text) <= MAX_PORT:
        raise ValueError(text)
    return int(text)


def user_of(url: str) -> str:
    """The Redis user that a `store.url` names."""
    by_sentinel = is_sentinel_url(url)
    options: Any = parse_sentinel_url(url)[2] if by_sentinel else redis.connection.parse_url(url)
    return str(options.get("username") or "default")


@contextmanager
def translated_errors(settings: StoreSettings) -> Iterator[None]:
    """Turns what redis-py raises into the program's errors."""
    try:
        yield
    except redis.exceptions.ResponseError as error:
        text = str(error)
        if text.startswith("LEASELOST"):
            raise LeaseLost("the lease of this instance expired and another one took over") from None
        if text.startswith("FORMAT "):
            key, _, version = text.removeprefix("FORMAT ").rpartition(" ")
            raise ConfigurationError(
                f"the keys in Redis have format {visible(version)}, which this version cannot read ({key}); "
                "stop all instances of the other version, or choose another store.prefix"
            ) from None
        explained, lasting = _explained(error, settings)
        raise StoreRefused(f"Redis refused: {explained}", lasting=lasting) from None
    except (redis.exceptions.RedisError, OSError) as error:
        explained, lasting = _explained(error, settings)
        raise StoreUnavailable(f"Redis: {explained}", lasting=lasting) from None


def _explained(error: Exception, settings: StoreSettings) -> tuple[str, bool]:
    """The reason, and whether waiting alone does not help."""
    text = " ".join(str(error).split())
    needs = rights.needs_of_store(user_of(settings.url), settings.prefix)
    if refusal := rights.explain(text, needs, command_at(text)):
        return refusal, True
    by_class: dict[type[Exception], str] = {
        redis.exceptions.ReadOnlyError: "READONLY",
        redis.exceptions.OutOfMemoryError: "OOM",
    }
    hint = _HINTS.get(by_class.get(type(error), text.partition(" ")[0]))
    lasting = is_lasting(error) or NO_SUCH_DATABASE in text
    return f"{text[:300]} ({hint})" if hint else text[:300], lasting
