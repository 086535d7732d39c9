"""Who may read the pages, by which names, and what a browser may do with them."""

from __future__ import annotations

import base64
from http import HTTPStatus

import pytest

from ha_monitor.config.web import Web
from ha_monitor.errors import ConfigurationError
from ha_monitor.http.exchange import Reply, Request
from ha_monitor.http.passwords import MAX_FAILURES
from ha_monitor.web.headers import CONTENT_SECURITY_POLICY, secured
from ha_monitor.web.hosts import Hosts
from ha_monitor.web.sign_in import SignIn, is_loopback, require_sign_in
from tests.unit.builders import TurnedClock


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def status(sign_in: SignIn, address: str = "192.0.2.9", **headers: str) -> int | None:
    """That of the refusal; None for who may read."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = sign_in.refusal(Request("GET", "/", given), address)
    return None if refusal is None else refusal.status.value


def made(**settings: object) -> SignIn:
    return SignIn(Web(**settings), TurnedClock(), lambda _: None)  # type: ignore[arg-type]


def test_without_a_sign_in_it_serves_this_machine_alone() -> None:
    """Given an address beyond loopback and no sign-in, it refuses to start and says what is needed; with one, or on
    loopback, it starts."""
    with pytest.raises(ConfigurationError, match=r"web\.listen = 0\.0\.0\.0:80: beyond loopback .* web\.username"):
        require_sign_in(Web(listen="0.0.0.0:80"))
    for settings in ({"username": "a", "password": "b"}, {"user_header": "X-User", "proxies": ["10.0.0.0/8"]}):
        require_sign_in(Web(listen="0.0.0.0:80", **settings))
    assert require_sign_in(Web()) == ("127.0.0.1", 9550)
    with pytest.raises(ConfigurationError, match=r"web\.user_header: expected web\.proxies"):
        require_sign_in(Web(user_header="X-User"))

    assert [is_loopback(host) for host in ("127.9.9.9", "::1", "localhost", "10.0.0.1", "0.0.0.0", "::", "web")] == [
        *(True, True, True, False, False, False, False)
    ]


def test_a_password_is_required_and_guessing_is_limited() -> None:
    """Given a user and a password, only who gives both may read; after ten wrong ones an address may not even with the
    right one, and others may."""
    sign_in = made(username="ops", password="s3cret")

    assert status(sign_in) == 401
    assert status(sign_in, **basic("ops", "s3cret")) is None
    for _ in range(MAX_FAILURES):
        assert status(sign_in, **basic("ops", "wrong")) == 401
    assert status(sign_in, **basic("ops", "s3cret")) == 429
    assert status(sign_in, "192.0.2.10", **basic("ops", "s3cret")) is None


def test_only_named_proxies_sign_people_in() -> None:
    """Given a user header and the proxies that set it, a reader with it may read through them alone; anybody else who
    sends it, and a proxy that does not, may not."""
    sign_in = made(user_header="X-Forwarded-User", proxies=["10.0.0.0/8", "fd00::1"])

    for proxy in ("10.1.2.3", "fd00::1", "::ffff:10.1.2.3"):
        assert status(sign_in, proxy, x_forwarded_user="ann") is None
        assert status(sign_in, proxy) == status(sign_in, proxy, x_forwarded_user="  ") == 403
    for other in ("192.0.2.9", "::1", "fd00::2", "unix"):
        assert status(sign_in, other, x_forwarded_user="ann") == 403
    with pytest.raises(ConfigurationError, match=r"^web\.proxies: '10\.0\.0\.0/99'"):
        made(proxies=["10.0.0.0/99"])


def test_behind_a_proxy_each_reader_has_guesses_of_his_own() -> None:
    """Given a password and a proxy, wrong passwords count for the reader whom the proxy names last, not for all who
    come through it; what a reader claims himself is not believed."""
    sign_in = made(username="ops", password="s3cret", proxies=["10.0.0.1"])
    for number in range(MAX_FAILURES):
        forwarded = f"198.51.100.{number}, 192.0.2.66"
        assert status(sign_in, "10.0.0.1", x_forwarded_for=forwarded, **basic("ops", "wrong")) == 401

    assert status(sign_in, "10.0.0.1", x_forwarded_for="192.0.2.66", **basic("ops", "s3cret")) == 429
    assert status(sign_in, "10.0.0.1", x_forwarded_for="192.0.2.67", **basic("ops", "s3cret")) is None
    assert status(sign_in, "192.0.2.66", x_forwarded_for="192.0.2.68", **basic("ops", "s3cret")) == 429


@pytest.mark.parametrize(
    ("guesses", "reader", "other"),
    [
        ("203.0.113.7:{port}", "203.0.113.7", "203.0.113.8:55123"),
        ("[2001:db8::1]:{port}", "2001:db8::1", "[2001:db8:1::1]:443"),
        ("[2001:db8::1]", "[2001:db8::1]:443", "[2001:db8:1::1]"),
        ("203.0.113.7:{port}, 10.0.0.2:443", "203.0.113.7", "203.0.113.8"),
    ],
)
def test_a_proxy_may_name_a_reader_with_the_port(guesses: str, reader: str, other: str) -> None:
    """Given a proxy that adds the port of the connection to each address, when one reader guesses, from another port
    each time, then that reader has to wait, and others behind the proxy can still sign in."""
    failed: list[str] = []
    settings = Web(username="ops", password="s3cret", proxies=["10.0.0.1", "10.0.0.2"])
    sign_in = SignIn(settings, TurnedClock(), failed.append)
    for number in range(MAX_FAILURES):
        forwarded = guesses.format(port=50_000 + number)
        assert status(sign_in, "10.0.0.1", x_forwarded_for=forwarded, **basic("ops", "wrong")) == 401

    assert status(sign_in, "10.0.0.1", x_forwarded_for=reader, **basic("ops", "s3cret")) == 429
    assert status(sign_in, "10.0.0.1", x_forwarded_for=other, **basic("ops", "s3cret")) is None
    assert set(failed) == {"203.0.113.7" if reader.startswith("203") else "2001:db8::1"}


def test_an_ipv4_address_is_the_same_in_both_notations() -> None:
    """Given a server on `[::]`, proxies and readers of IPv4 are who they are, whichever notation the configuration, the
    connection and the proxy use; the line about a wrong password has the usual one."""
    failed: list[str] = []
    for proxies in (["10.0.0.0/24"], ["::ffff:10.0.0.0/120"], ["::ffff:a00:1"]):
        settings = Web(username="ops", password="s3cret", proxies=proxies, user_header="X-User")
        sign_in = SignIn(settings, TurnedClock(), failed.append)
        for proxy in ("10.0.0.1", "::ffff:10.0.0.1"):
            assert status(sign_in, proxy, x_user="ann") is None
        assert status(sign_in, "::ffff:10.0.1.1", x_user="ann") == 401
        for number in range(MAX_FAILURES):
            forwarded = ("192.0.2.66", "::ffff:192.0.2.66")[number % 2]
            assert status(sign_in, "::ffff:10.0.0.1", x_forwarded_for=forwarded, **basic("ops", "wrong")) == 401
        assert status(sign_in, "10.0.0.1", x_forwarded_for="::ffff:192.0.2.66", **basic("ops", "s3cret")) == 429
        assert status(sign_in, "10.0.0.1", x_forwarded_for="::ffff:192.0.2.67", **basic("ops", "s3cret")) is None

    assert set(failed) == {"192.0.2.66"}
    assert [is_loopback(host) for host in ("::ffff:127.0.0.1", "::ffff:10.0.0.1")] == [True, False]


def test_names_of_others_are_not_served() -> None:
    """Given the field Host, addresses and the known names are served, and a name that another page may have pointed
    at this address is not."""
    hosts = Hosts(["monitor.example.org", ""])

    known = ["monitor.example.org", "MONITOR.example.org:443", "localhost:9550", "127.0.0.1:9550", "[::1]:9550", "::1"]
    assert all(hosts.knows(name) for name in [*known, None])
    unknown = ["evil.example", "monitor.example.org.evil.example", "localhost.evil", "", ":", "[x]", "127.0.0.1.evil"]
    assert [name for name in unknown if hosts.knows(name)] == []


def test_a_browser_may_do_no_more_than_the_pages_need() -> None:
    """Given any reply, its fields forbid scripts, styles and pictures of others, what is inline, frames, guessing of
    types, and to tell other sites where a reader came from."""
    found = dict(secured(Reply(HTTPStatus.OK, b"")).headers)

    policy = dict(part.strip().partition(" ")[::2] for part in CONTENT_SECURITY_POLICY.split(";"))
    assert found["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'none'", "'none'", "'none'")
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src", "form-action")} == {"'self'"}
    assert (found["X-Content-Type-Options"], found["Referrer-Policy"]) == ("nosniff", "no-referrer")
