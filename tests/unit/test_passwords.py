"""Who is told the metrics, and how often one may guess."""

from __future__ import annotations

import base64
import hmac

import pytest

from ha_monitor.http.passwords import (
    MAX_ADDRESSES,
    MAX_FAILURES,
    MAX_FAILURES_OVERALL,
    WINDOW,
    PasswordResult,
    Passwords,
)
from ha_monitor.http.rate_limited import PAUSE, RateLimited
from tests.unit.builders import TurnedClock

PAIR = base64.b64encode("prometheus:s3cret:ü".encode()).decode()
WRONG = "Basic " + base64.b64encode(b"prometheus:other").decode()


def passwords(clock: TurnedClock | None = None, failed: list[str] | None = None) -> Passwords:
    told = [] if failed is None else failed
    return Passwords("prometheus", "s3cret:ü", clock or TurnedClock(), told.append)


@pytest.mark.parametrize(
    "header",
    [f"Basic {PAIR}", f"basic {PAIR}", f"BASIC   {PAIR}", f"  bAsIc {PAIR}  ", f"Basic {PAIR.rstrip('=')}"],
)
def test_the_scheme_is_recognised_however_it_is_spelled(header: str) -> None:
    assert passwords().check(header, "10.0.0.1") is PasswordResult.RIGHT


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic ", f"Bearer {PAIR}", PAIR, f"Basic {PAIR}x", "Basic \xff", "Basic " + "A" * 10000, WRONG],
)
def test_anything_else_is_wrong_and_raises_nothing(header: str) -> None:
    assert passwords().check(header, "10.0.0.1") is PasswordResult.WRONG


def test_who_gives_none_is_asked_and_not_counted() -> None:
    """Given a browser that asks without a password first, as they all do, it is never locked out for that."""
    checked = passwords()

    assert {checked.check(None, "10.0.0.1") for _ in range(5 * MAX_FAILURES)} == {PasswordResult.NONE_GIVEN}
    assert checked.check(f"Basic {PAIR}", "10.0.0.1") is PasswordResult.RIGHT


def test_one_address_has_a_few_attempts_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given one that guesses, after ten failures nothing is compared for it any more, not even the right one, until the
    minute is over; others are not affected.
    """
    clock = TurnedClock()
    failed: list[str] = []
    checked = passwords(clock, failed)
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: bool(compared.append(len(a))) or compare(a, b))

    results = [checked.check(WRONG, "10.0.0.1") for _ in range(1000)]

    assert results.count(PasswordResult.WRONG) == len(failed) == len(compared) == MAX_FAILURES
    assert set(results[MAX_FAILURES:]) == {PasswordResult.TOO_MANY}
    assert checked.check(f"Basic {PAIR}", "10.0.0.1") is PasswordResult.TOO_MANY
    assert checked.check(f"Basic {PAIR}", "10.0.0.2") is PasswordResult.RIGHT
    clock.now += WINDOW
    assert checked.check(f"Basic {PAIR}", "10.0.0.1") is PasswordResult.RIGHT


def test_many_addresses_have_together_not_much_more() -> None:
    """Given a botnet, it has a hundred attempts a minute in all; who gave the right one before is still let in."""
    checked = passwords()
    assert checked.check(f"Basic {PAIR}", "192.0.2.1") is PasswordResult.RIGHT

    results = [checked.check(WRONG, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(3 * MAX_ADDRESSES)]

    assert results.count(PasswordResult.WRONG) == MAX_FAILURES_OVERALL
    assert checked.check(f"Basic {PAIR}", "192.0.2.1") is PasswordResult.RIGHT
    assert checked.check(f"Basic {PAIR}", "192.0.2.2") is PasswordResult.TOO_MANY


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    checked = passwords()

    results = [checked.check(WRONG, f"2001:db8::{n:x}") for n in range(100)]

    assert results.count(PasswordResult.WRONG) == MAX_FAILURES
    assert checked.check(f"Basic {PAIR}", "2001:db8:0:1::1") is PasswordResult.RIGHT


def test_each_ipv4_client_of_a_socket_for_both_counts_for_himself() -> None:
    """Given a server on `[::]`, where an IPv4 client has a mapped address, ten wrong passwords lock out that client, by
    both notations of his address, and no other."""
    checked = passwords()

    results = [checked.check(WRONG, "::ffff:192.0.2.66") for _ in range(MAX_FAILURES + 1)]

    assert results == [PasswordResult.WRONG] * MAX_FAILURES + [PasswordResult.TOO_MANY]
    assert checked.check(f"Basic {PAIR}", "192.0.2.66") is PasswordResult.TOO_MANY
    assert checked.check(f"Basic {PAIR}", "::ffff:c000:243") is PasswordResult.RIGHT
    assert checked.check(f"Basic {PAIR}", "::1") is PasswordResult.RIGHT


def test_what_is_remembered_is_bounded() -> None:
    """Given failures from more addresses than are remembered, over many minutes, the oldest are forgotten."""
    clock = TurnedClock()
    checked = passwords(clock)
    for number in range(2 * MAX_ADDRESSES):
        clock.now += WINDOW
        checked.check(WRONG, f"10.0.{number >> 8}.{number & 255}")

    assert len(checked._failures) == MAX_ADDRESSES


@pytest.mark.parametrize("given", ["", "p", "prometheus:s3cret:", "prometheus:s3cret:ü" * 100])
def test_what_is_compared_is_of_one_length(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given guesses of any length, what is compared has always the same, so that the time it takes tells nothing."""
    lengths = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: bool(lengths.append((len(a), len(b)))))

    passwords().check("Basic " + base64.b64encode(given.encode()).decode(), "10.0.0.1")

    assert lengths == [(32, 32)]


def test_a_flood_is_one_line_a_minute_and_its_number_is_told() -> None:
    """Given a thousand failures in a minute, the first is told at once, and the next line says how many there were."""
    clock, said = TurnedClock(), []
    limited = RateLimited(clock, lambda text, times: said.append((text, times)))

    for _ in range(1000):
        limited.report("10.0.0.1")
    clock.now += PAUSE
    limited.report("10.0.0.2")

    assert said == [("10.0.0.1", 1), ("10.0.0.2", 1000)]
