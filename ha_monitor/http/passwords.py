"""Basic authentication with one user name and password, limited against guessing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

from ha_monitor.clock import Clock
from ha_monitor.http.addresses import ip_of

T = TypeVar("T")
WINDOW = 60.0
"""Seconds in which failures are counted."""
MAX_FAILURES = 10
"""Failures per address and window. Beyond that every attempt is refused, right or wrong, until the window ends."""
MAX_FAILURES_OVERALL = 100
"""Failures of all addresses together. Beyond that only addresses that gave the right password before may try."""
MAX_ADDRESSES = 1000
"""Addresses that are remembered."""


class PasswordResult(Enum):
    """The result of one attempt."""

    RIGHT = auto()
    NONE_GIVEN = auto()
    WRONG = auto()
    TOO_MANY = auto()
    """Refused without comparing."""


class _Failures:
    """The failures in the current window."""

    def __init__(self, now: float) -> None:
        self.began = now
        self.count = 0

    def at(self, now: float) -> int:
        if now - self.began >= WINDOW:
            self.began, self.count = now, 0
        return self.count


class Passwords:
    """Compares in constant time, and counts failures by address and overall."""

    def __init__(self, username: str, password: str, clock: Clock, failed: Callable[[str], None]) -> None:
        """:param failed: called with the address after a wrong password."""
        self._expected = _digest(f"{username}:{password}".encode())
        self._clock = clock
        self._failed = failed
        self._overall = _Failures(clock.monotonic())
        self._failures: dict[str, _Failures] = {}
        self._trusted: dict[str, None] = {}
        """Addresses that gave the right password; latest last."""

    def check(self, header: str | None, address: str) -> PasswordResult:
        """
        :param header: the Authorization header; None if there is none.
        :param address: of the client; the addresses of one IPv6 network count as one.
        """
        if header is None:
            return PasswordResult.NONE_GIVEN
        now = self._clock.monotonic()
        who = _network(address)
        mine = self._failures.get(who)
        if mine is not None and mine.at(now) >= MAX_FAILURES:
            return PasswordResult.TOO_MANY
        if self._overall.at(now) >= MAX_FAILURES_OVERALL and who not in self._trusted:
            return PasswordResult.TOO_MANY
        if hmac.compare_digest(_digest(_given(header)), self._expected):
            self._failures.pop(who, None)
            _remember(self._trusted, who, None)
            return PasswordResult.RIGHT
        mine = mine or _Failures(now)
        mine.count += 1
        self._overall.count += 1
        _remember(self._failures, who, mine)
        self._failed(address)
        return PasswordResult.WRONG


def _remember(table: dict[str, T], key: str, value: T) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > MAX_ADDRESSES:
        del table[next(iter(table))]


def _network(address: str) -> str:
    """The network in which one client may have any number of addresses."""
    ip = ip_of(address)
    if ip is None:
        return address
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def _given(header: str) -> bytes:
    """User name and password of the Basic scheme (case-insensitive); empty if the scheme is another one."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return b""
    pair = rest.strip().rstrip("=")
    try:
        return base64.b64decode(pair + "=" * (-len(pair) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _digest(pair: bytes) -> bytes:
    """A digest of fixed length, so that the comparison does not reveal the length."""
    return hashlib.sha256(pair).digest()
