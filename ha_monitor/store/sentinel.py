"""Asks the sentinels which Redis is the primary: all of them for a new connection, one of them while it lasts.

After a fail-over by hand the old primary accepts writes for some ten seconds more, which the new one never gets; the
sentinels name the new one after a second or two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import Any

import redis.exceptions

from ha_monitor.causes.connection import cause_of
from ha_monitor.causes.service import Service
from ha_monitor.clock import Clock
from ha_monitor.errors import StoreUnavailable, reason_of
from ha_monitor.schedule import Schedule
from ha_monitor.store.sentinel_url import Address, SentinelUrl, open_connection, shown
from ha_monitor.threads import ThreadUnavailable, call_in_thread

AGREE_WITHIN = 0.2
"""Seconds that the others have after the first answer: one alone may lag, or be cut off with an old primary."""
RETRY_AFTER = 5.0
"""Seconds until the next sentinel is tried after one that could not be asked."""
_QUESTION = ("SENTINEL", "get-master-addr-by-name")
_SENTINEL_ERRORS = (redis.exceptions.RedisError, OSError, ValueError)
"""What a connection to a sentinel may raise."""
_SERVICE = Service("store.url", "sentinel:")
_LOGIN = "set sentinel_password, and sentinel_username if it has users, in store.url"
_REASONS = {
    "Authentication required": f"it requires a password: {_LOGIN}",
    "NOAUTH": f"it requires a password: {_LOGIN}",
    "without any password configured": "it has no password: remove sentinel_password from store.url",
    "invalid username-password pair": "sentinel_username or sentinel_password in store.url is wrong",
    "no permissions": "its user lacks rights; grant it: +client|setname +sentinel|get-master-addr-by-name",
}
"""By words from Redis's own errors."""


class Sentinels:
    """All sentinels of one Redis."""

    def __init__(self, url: SentinelUrl, timeout: float, clock: Clock) -> None:
        """:param timeout: seconds for each of them, and for all together."""
        self._url = url
        self._timeout = timeout
        self._clock = clock
        self._order = list(url.sentinels)
        self._in_progress: dict[Address, Future[Address | None]] = {}

    @property
    def order(self) -> tuple[Address, ...]:
        """The order in which they are asked: the one that last answered first comes first, until none answers."""
        return tuple(self._order)

    def find(self) -> Address:
        """The primary that most sentinels name. All are asked in parallel, so one that hangs costs at most
        `AGREE_WITHIN`; blocks for at most the timeout.

        :raises StoreUnavailable: if none names one; the text says why, for each of them.
        """
        until = self._clock.monotonic() + self._timeout
        asked = self._ask_all()
        named: list[Address] = []
        problems: dict[Address, BaseException | None] = {}
        waiting = set(asked)
        while waiting and not (named and agreed(named, len(self._order))):
            done, waiting = wait(waiting, max(0.0, until - self._clock.monotonic()), FIRST_COMPLETED)
            if not done:
                break
            for question in done:
                sentinel, problem = asked[question], question.exception()
                answer = None if problem else question.result()
                if answer is None:
                    problems[sentinel] = problem
                    continue
                if not named:
                    self._order.sort(key=lambda one: one != sentinel)
                    until = min(until, self._clock.monotonic() + AGREE_WITHIN)
                named.append(answer)
        if not named:
            self._order.append(self._order.pop(0))
            raise self._unnamed(set(asked.values()), problems)
        return most_named(named)

    def _ask_all(self) -> dict[Future[Address | None], Address]:
        asked = {}
        for sentinel in self._order:
            question = self._in_progress.get(sentinel)
            if question is None or question.done():
                try:
                    question = call_in_thread(f"sentinel {shown(sentinel)}", partial(self._ask, sentinel))
                except ThreadUnavailable:
                    continue
                self._in_progress[sentinel] = question
            asked[question] = sentinel
        return asked or self._ask_one_here()

    def _ask_one_here(self) -> dict[Future[Address | None], Address]:
        """Without threads, one sentinel is asked at each attempt, which takes no longer than its timeouts."""
        question: Future[Address | None] = Future()
        try:
            question.set_result(self._ask(self._order[0]))
        except _SENTINEL_ERRORS as error:
            question.set_exception(error)
        return {question: self._order[0]}

    def _ask(self, sentinel: Address) -> Address | None:
        connection = connection_to_sentinel(self._url, sentinel, self._timeout)
        try:
            connection.send_command(*_QUESTION, self._url.service)
            return read_answer(connection)
        finally:
            connection.disconnect()

    def _unnamed(self, asked: set[Address], problems: dict[Address, BaseException | None]) -> StoreUnavailable:
        reasons = []
        for sentinel in self._url.sentinels:
            if sentinel not in asked:
                reason = "not asked yet, as no thread can be started"
            elif sentinel not in problems or isinstance(problems[sentinel], redis.exceptions.TimeoutError):
                reason = f"no answer within {self._timeout:g} s"
            else:
                reason = reason_given(problems[sentinel], self._url.service)
            reasons.append(f"{shown(sentinel)}: {reason}")
        is_complete = len(problems) == len(self._order)
        return StoreUnavailable(
            f"Redis: no sentinel names the primary of {self._url.service}: {'; '.join(reasons)}",
            lasting=is_complete and all(map(_is_lasting, problems.values())),
        )


class SentinelWatch:
    """Asks one sentinel at a time. Never blocks: it connects in a thread, and reads an answer at its next call."""

    def __init__(self, url: SentinelUrl, timeout: float, clock: Clock) -> None:
        """:param timeout: seconds for each step of connecting."""
        self._url = url
        self._timeout = timeout
        self._due = Schedule(clock, RETRY_AFTER)
        self._turn = 0
        self._connecting: Future[Any] | None = None
        self._connection: Any = None
        self._is_asked = False

    def primary(self) -> Address | None:
        """The primary that a sentinel named in answer to the previous call's question; None if there is no answer."""
        if self._connection is None and self._connecting is None and not self._due.is_due():
            return None
        try:
            return self._ask()
        except (*_SENTINEL_ERRORS, ThreadUnavailable):
            self.close()
            self._due.restart()
            return None

    def close(self) -> None:
        """Close the connection, if there is one; the next question goes to the next sentinel. Never raises."""
        if self._connecting is not None:
            self._connecting.add_done_callback(_disconnect)
        if self._connection is not None:
            with suppress(*_SENTINEL_ERRORS):
                self._connection.disconnect()
        self._connecting, self._connection, self._is_asked = None, None, False

    def _ask(self) -> Address | None:
        if self._connection is None and not self._connect():
            return None
        found = None
        if self._is_asked:
            if not self._connection.can_read(timeout=0):
                raise redis.exceptions.TimeoutError("the sentinel does not answer")
            found = read_answer(self._connection)
        self._connection.send_command(*_QUESTION, self._url.service)
        self._is_asked = True
        return found

    def _connect(self) -> bool:
        """Whether there is a connection by now."""
        if self._connecting is None:
            sentinel = self._url.sentinels[self._turn % len(self._url.sentinels)]
            self._turn += 1
            name = f"sentinel {shown(sentinel)}"
            self._connecting = call_in_thread(name, partial(connection_to_sentinel, self._url, sentinel, self._timeout))
        if not self._connecting.done():
            return False
        connecting, self._connecting = self._connecting, None
        self._connection = connecting.result()
        return True


def connection_to_sentinel(url: SentinelUrl, sentinel: Address, timeout: float) -> Any:
    """A connection to a sentinel. Blocks for at most the timeout at each step.

    :raises Exception: one of `_SENTINEL_ERRORS`.
    """
    options = {
        "protocol": 2,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "client_name": "ha-monitor",
        **url.to_sentinels,
    }
    connection = open_connection(sentinel, options)
    try:
        connection.connect()
    except BaseException:
        connection.disconnect()
        raise
    return connection


def read_answer(connection: Any) -> Address | None:
    """The address in the reply to the question; None if the sentinel does not know the service."""
    answer = connection.read_response()
    return (answer[0].decode(), int(answer[1])) if answer else None


def agreed(named: Sequence[Address], sentinels: int) -> Address | None:
    """The address that a majority of all sentinels name; None if there is no majority yet."""
    found = most_named(named)
    return found if named.count(found) * 2 > sentinels else None


def most_named(named: Sequence[Address]) -> Address:
    """The address that is named most often; if there are several, the first."""
    return Counter(named).most_common(1)[0][0]


def reason_given(problem: BaseException | None, service: str) -> str:
    """Why a sentinel named none, though it could be asked or refused to answer."""
    if problem is None:
        return f"it does not know {service}"
    text = reason_of(problem)
    for words, reason in _REASONS.items():
        if words in text:
            return reason
    return cause_of(problem, _SERVICE).text


def _is_lasting(problem: BaseException | None) -> bool:
    refused = (redis.exceptions.ResponseError, redis.exceptions.AuthenticationError)
    return problem is None or isinstance(problem, refused) or cause_of(problem, _SERVICE).lasting


def _disconnect(connecting: Future[Any]) -> None:
    with suppress(*_SENTINEL_ERRORS):
        connecting.result().disconnect()
