"""One connection to Redis, and the place where redis-py's errors are translated into the program's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import hiredis
import redis.connection
import redis.exceptions

from ha_monitor import redis_cluster
from ha_monitor.causes.connection import cause_of
from ha_monitor.causes.redis import refusal_of
from ha_monitor.causes.service import Cause, Service
from ha_monitor.clock import Clock, SystemClock
from ha_monitor.config.parameters import parameters_of
from ha_monitor.config.schema import StoreSettings
from ha_monitor.config.secrets import mask
from ha_monitor.config.urls import BAD_URL, address_of, problem_of
from ha_monitor.errors import ConfigurationError, LeaseLost, StoreRefused, StoreUnavailable, reason_of
from ha_monitor.rights import redis as rights
from ha_monitor.store.sentinel_url import Address, is_sentinel_url, open_connection, parse_sentinel_url, shown
from ha_monitor.text.visible import visible

if TYPE_CHECKING:
    from ha_monitor.store.sentinel import Sentinels, SentinelWatch

_SCHEMES = ("redis://", "rediss://", "unix://")


class StoreConnection:
    """A connection on which a command can be in flight while the caller does something else.

    redis-py's client object waits for each reply; its connection object, which is used here, separates writing from
    reading. Not thread-safe. A failure of any kind closes the connection, since a late reply would be taken for the
    reply to the next command.
    """

    def __init__(self, settings: StoreSettings, clock: Clock | None = None) -> None:
        """:param clock: for the sentinels, if `store.url` names any; None for the machine's own."""
        self._settings = settings
        self._clock = clock or SystemClock()
        self._connection: Any = None
        self._primary: Address | None = None
        """The Redis that the sentinels named when this connection was made."""
        self._sentinels: Sentinels | None = None
        self._watch: SentinelWatch | None = None
        self._is_greeted = False
        """Whether the reply to the first command, HELLO, was read, which then no longer delays the next reply."""

    def another(self) -> StoreConnection:
        """A new connection to the same Redis, not yet connected. It shares this one's knowledge of the sentinels, so
        that questions to them that are in flight are not asked twice.
        """
        other = StoreConnection(self._settings, self._clock)
        other._sentinels = self._sentinels
        return other

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def validate(self) -> None:
        """Check whether `store.url` could ever be used, without connecting.

        :raises ConfigurationError: if it could not.
        """
        if is_sentinel_url(self._settings.url):
            parse_sentinel_url(self._settings.url)
        else:
            self._make()  # an object of redis-py, which does not connect yet

    def connect(self) -> None:
        """Connect anew. Blocks for at most `store.timeout` at each step, and before that for at most half of it until
        the sentinels have named the primary.

        :raises StoreUnavailable: if no usable Redis is available at the moment.
        :raises ConfigurationError: if `store.url` names none that could ever be used.
        """
        self.close()
        with translated_errors(self._settings, self._place, connecting=True):
            connection = self._make()
            try:
                connection.connect()
                connection.send_command(redis_cluster.HELLO, 2)  # Redis 6.0 insists on the protocol
            except BaseException:
                connection.disconnect()
                raise
            self._connection, self._is_greeted = connection, False

    def close(self) -> None:
        """Close the connection, if there is one. Never raises."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
        if self._watch is not None:
            self._watch.close()

    def verify_primary(self) -> None:
        """Leave a Redis that the sentinels no longer name as the primary, though it may still accept writes.

        :raises StoreUnavailable: if they name another one; the connection is closed.
        """
        if self._watch is None or self._sentinels is None or self._connection is None:
            return
        named = self._watch.primary()
        if named is None or named == self._primary:
            return
        # One sentinel alone may lag: what counts is which primary the next attempt to connect would find.
        with self._closing_on_error():
            named = self._sentinels.find()
        if named != self._primary:
            self.close()
            raise StoreUnavailable(f"Redis: the sentinels name another primary now: {named[0]}:{named[1]}")

    def send(self, *command: Any) -> None:
        """Write a command; its reply must be read by `receive`, in order.

        :raises StoreUnavailable: if the connection is down or breaks.
        """
        if self._connection is None:
            raise StoreUnavailable("not connected to Redis")
        with self._closing_on_error():
            try:
                self._connection.send_command(*command)
            except UnicodeEncodeError:
                # Typed text may not be UTF-8: nothing in Redis has such a name. Nothing was sent.
                self._connection.send_command(*map(_as_bytes, command))

    def send_all(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Write several commands at once, each as `send` does.

        :raises StoreUnavailable: if the connection is down or breaks.
        """
        if self._connection is None:
            raise StoreUnavailable("not connected to Redis")
        with self._closing_on_error():
            try:
                # As redis-py does, without its check of each word's type, which takes half of the time for a list.
                packed = b"".join(map(hiredis.pack_command, commands))
            except UnicodeEncodeError:
                packed = b"".join(hiredis.pack_command(tuple(map(_as_bytes, command))) for command in commands)
            self._connection.send_packed_command([packed])

    def receive(self) -> Any:
        """The reply to the oldest command in flight; blocks for at most `store.timeout`.

        :raises StoreUnavailable: if the connection is down, breaks, or Redis refuses the command.
        :raises LeaseLost: if a script says so.
        :raises ConfigurationError: if this is a node of a Redis Cluster, or the keys are those of another version.
        """
        if self._connection is None:
            raise StoreUnavailable("not connected to Redis")
        with self._closing_on_error():
            if not self._is_greeted:
                self._read_greeting()
            return self._connection.read_response()

    def ask_in_turn(self, commands: Sequence[tuple[Any, ...]], at_once: int) -> Iterator[list[Any]]:
        """The replies to read-only commands, in lists of so many; faster than `call_all` for many commands. Redis works
        on the next ones while the caller looks at these. If not all lists are taken, the connection is closed.

        :raises StoreUnavailable: as `send_all` and `receive` do.
        """
        pieces = [commands[first : first + at_once] for first in range(0, len(commands), at_once)]
        left = len(pieces)
        try:
            for sent, piece in enumerate(pieces):
                self.send_all(piece)
                if sent:
                    replies = self._replies(len(pieces[sent - 1]))
                    left -= 1
                    yield replies
            if pieces:
                replies = self._replies(len(pieces[-1]))
                left -= 1
                yield replies
        finally:
            if left:
                self.close()

    def _replies(self, count: int) -> list[Any]:
        first = self.receive()
        assert self._connection is not None
        read = self._connection.read_response
        with self._closing_on_error():
            return [first, *(read() for _ in range(1, count))]

    def has_reply(self, within: float) -> bool:
        """Whether a reply, or a part of one, has arrived or arrives within so many seconds.

        :raises StoreUnavailable: if the connection is down or broken.
        """
        if self._connection is None:
            raise StoreUnavailable("not connected to Redis")
        with self._closing_on_error():
            return bool(self._connection.can_read(timeout=within))

    def time_out(self) -> None:
        """Give up a reply that has not arrived in time. :raises StoreUnavailable: as `receive` would."""
        with self._closing_on_error():
            raise redis.exceptions.TimeoutError("Timeout reading from socket")

    def call(self, *command: Any) -> Any:
        """Send a command and wait for its reply. Raises as `send` and `receive` do."""
        return self.call_all(command)[0]

    def call_all(self, *commands: Sequence[Any]) -> list[Any]:
        """The same for several commands in one round trip."""
        for command in commands:
            self.send(*command)
        return [self._reply_to(command) for command in commands]

    def _reply_to(self, command: Sequence[Any]) -> Any:
        try:
            return self.receive()
        except StoreRefused as error:
            if "WRONGTYPE" in str(error) and not str(command[0]).startswith("EVAL"):
                raise StoreRefused(f"{error}: {command[1]}", lasting=error.lasting) from None
            raise

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            with translated_errors(self._settings, self._place):
                yield
        except LeaseLost:
            raise  # the reply was read: the connection is still usable
        except BaseException:
            self.close()
            raise

    def _place(self) -> str:
        """Which Redis it is."""
        named = address_of(self._settings.url)
        return f"{shown(self._primary)}, the primary of {named}" if self._primary else named

    def _read_greeting(self) -> None:
        self._is_greeted = True
        with suppress(redis.exceptions.ResponseError):  # from a Redis that wants a password or does not know HELLO
            if redis_cluster.is_in_cluster(self._connection.read_response()):
                raise _in_cluster(self._settings)

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
            if not url.startswith(_SCHEMES):
                raise _wrong(url, f"expected {', '.join(_SCHEMES)} or sentinel://") from None
            reason = str(error) if "Invalid value for" in str(error) else problem_of(url) or BAD_URL
            raise _wrong(url, reason) from None
        if problem := problem_of(url):
            raise _wrong(url, problem)
        parsed |= parameters_of("store.url", url).tls or {}
        kind = parsed.pop("connection_class", redis.connection.Connection)
        if kind is redis.connection.UnixDomainSocketConnection:
            del options["socket_keepalive"]
        try:
            return kind(**{**options, **parsed})
        except (TypeError, redis.exceptions.RedisError) as error:
            raise _wrong(url, reason_of(error)) from None

    def _by_sentinel(self, options: dict[str, Any]) -> Any:
        from ha_monitor.store.sentinel import Sentinels, SentinelWatch  # noqa: PLC0415

        url, timeout = parse_sentinel_url(self._settings.url), self._settings.timeout / 2
        if self._sentinels is None:
            self._sentinels = Sentinels(url, timeout, self._clock)
        self._primary = None
        self._primary = self._sentinels.find()
        self._watch = SentinelWatch(url._replace(sentinels=self._sentinels.order), timeout, self._clock)
        return open_connection(self._primary, {**options, **url.primary})


def _wrong(url: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"store.url = {mask('store.url', url)}: {reason}", "store.url")


def user_of(url: str) -> str:
    """The Redis user that a `store.url` names."""
    options: Any = parse_sentinel_url(url).primary if is_sentinel_url(url) else redis.connection.parse_url(url)
    return str(options.get("username") or "default")


def _in_cluster(settings: StoreSettings) -> ConfigurationError:
    return redis_cluster.refused("store.url", address_of(settings.url))


@contextmanager
def translated_errors(
    settings: StoreSettings, place: Callable[[], str] | None = None, *, connecting: bool = False
) -> Iterator[None]:
    """Translate redis-py's errors into the program's.

    :param place: returns which Redis it is, called if there is an error; None for the one in `store.url`.
    :param connecting: whether the connection is being made.
    """

    def where() -> str:
        return place() if place else address_of(settings.url)

    try:
        yield
    except redis.exceptions.ResponseError as error:
        if redis_cluster.is_refusal(error):
            raise _in_cluster(settings) from None
        text = str(error)
        if text.startswith("LEASELOST"):
            from ha_monitor.store.own_state import WHY_LOST  # noqa: PLC0415

            raise LeaseLost(WHY_LOST.get(text.removeprefix("LEASELOST "), text)) from None
        if text.startswith("FORMAT "):
            key, _, version = text.removeprefix("FORMAT ").rpartition(" ")
            raise ConfigurationError(
                f"the keys in Redis have format {visible(version)}, which this version cannot read ({visible(key)}); "
                "stop all instances of the other version, or choose another store.prefix"
            ) from None
        cause = _explained(error, settings)
        raise StoreRefused(f"Redis at {where()} refused: {cause.text}", lasting=cause.lasting) from None
    except (redis.exceptions.RedisError, OSError) as error:
        cause = _explained(error, settings, connecting=connecting)
        raise StoreUnavailable(f"Redis at {where()}: {cause.text}", lasting=cause.lasting) from None


def refusal_in(reply: bytes, settings: StoreSettings, command: str) -> str:
    """Why Redis refused a command, from the text of the error that a script caught."""
    error = redis.exceptions.ResponseError(reply.decode("utf-8", "replace"))
    needs = rights.needs_of_store(user_of(settings.url), settings.prefix)
    return rights.explain(str(error), needs, command) or refusal_of(error, "store.url", command).text


def _explained(error: Exception, settings: StoreSettings, *, connecting: bool = False) -> Cause:
    """Why a call failed."""
    # Imported here, because these modules know each line of each script, which takes as long as most questions.
    from ha_monitor.store.scripts import command_at, place_of  # noqa: PLC0415

    text = " ".join(str(error).split())
    needs = rights.needs_of_store(user_of(settings.url), settings.prefix)
    if refusal := rights.explain(text, needs, command_at(text)):
        return Cause(refusal, lasting=True)
    if not isinstance(error, redis.exceptions.ResponseError):
        ours = Service("store.url", settings.url, "store.timeout", settings.timeout)
        return cause_of(error, ours, connecting=connecting)
    cause = refusal_of(error, "store.url", command_at(text))
    place = place_of(text)
    return cause._replace(text=f"{cause.text} (line {place.line} of the script {place.script})") if place else cause


def _as_bytes(part: Any) -> Any:
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
