"""Broker URLs and store URLs: which can be used, and what of them may be shown."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis.connection

from ha_monitor.backend.results import ResultBackend
from ha_monitor.broker.address import connection_to, is_amqp, urls_of
from ha_monitor.config.schema import Broker, StoreSettings
from ha_monitor.config.schema import ResultBackend as ResultSettings
from ha_monitor.config.urls import BAD_DATABASE, BAD_HOST, BAD_PORT, BAD_URL, SEVERAL_URLS, address_of, problem_of
from ha_monitor.errors import ConfigurationError
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.sentinel_url import open_connection, parse_sentinel_url

KINDS = "expected amqp://, amqps://, redis://, rediss:// or sentinel://"


@pytest.mark.parametrize(
    ("setting", "urls", "amqp"),
    [
        ("amqp://a//", ["amqp://a//"], True),
        ("amqp://a// ; amqps://b/v;", ["amqp://a//", "amqps://b/v"], True),
        ("redis://a/0;rediss://b/0", ["redis://a/0", "rediss://b/0"], False),
        ("sentinel://a:1;sentinel://b:2", ["sentinel://a:1;sentinel://b:2"], False),
        ("unix:///run/redis.sock", ["unix:///run/redis.sock"], False),
    ],
)
def test_a_setting_may_name_several_brokers(setting: str, urls: list[str], amqp: bool) -> None:
    """Given URLs with ; between, they are tried in this order; the sentinels of one Redis are one broker."""
    assert urls_of(setting) == urls
    assert is_amqp(setting) is amqp


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("http://u:hunter2@a/", f"broker.url = http://u:***@a/: {KINDS}"),
        ("rabbit1", f"broker.url = rabbit1: {KINDS}"),
        ("amqp://a//;redis://b/0", "broker.url: expected brokers of one kind, not AMQP and Redis together"),
        (";", "broker.url: expected brokers of one kind, not AMQP and Redis together"),
        ("amqp://u:hunt/er2@a:5672//", "broker.url = amqp://u:***@a:5672//: expected host:port; "),
        ("amqp://u:hunt#er2@a:5672//", "broker.url = amqp://u:***@a:5672//: expected host:port; "),
        ("amqp://a:port//", "broker.url = amqp://a:port//: expected host:port; "),
        ("amqp://a:70000//", "broker.url = amqp://a:70000//: expected a port from 1 to 65535"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line_without_the_password(setting: str, line: str) -> None:
    """Given a wrong URL, the line says what was expected; nothing of a password is in it, however it is split."""
    with pytest.raises(ConfigurationError) as caught:
        urls_of(setting)

    assert str(caught.value).startswith(line)
    assert "hunt" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:p@ss@host:5672/v", "host:5672/v"),
        ("amqp://host//", "host//"),
        ("redis://:pw@host/0?password=x", "host/0"),
    ],
)
def test_an_address_shows_neither_user_nor_password(url: str, shown: str) -> None:
    """Given a URL, what may be logged of it is the place."""
    assert address_of(url) == shown


@pytest.mark.parametrize(
    ("url", "configured", "expected"),
    [
        ("amqp://host//", {}, False),
        ("amqps://host//", {}, {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "host"}),
        (
            "amqp://host//",
            {"ca_certs": "/ca.pem", "cert_reqs": "CERT_OPTIONAL"},
            {"ca_certs": "/ca.pem", "cert_reqs": ssl.CERT_OPTIONAL, "server_hostname": "host"},
        ),
        ("redis://host/0", {}, False),
        ("rediss://host/0", {"ca_certs": "/ca"}, {"ssl_ca_certs": "/ca", "ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("rediss://host/0", {"cert_reqs": "none"}, {"ssl_cert_reqs": ssl.CERT_NONE}),
    ],
)
def test_certificates_are_verified_unless_told_otherwise(url: str, configured: dict[str, Any], expected: Any) -> None:
    """Given a TLS URL or TLS options, the certificate is required, and options have their transport's names."""
    connection = connection_to(url, Broker(url=url, tls=configured), options={})

    assert connection.ssl == expected


def test_an_unknown_kind_of_verification_is_refused() -> None:
    """Given a cert_reqs that is none, the line says which there are."""
    with pytest.raises(
        ConfigurationError, match=r"broker\.tls\.cert_reqs = 'maybe': expected one of required, optional"
    ):
        connection_to("amqps://h//", Broker(tls={"cert_reqs": "maybe"}), options={})


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://a/0;redis://b/0", SEVERAL_URLS),
        ("redis://a:1,redis://b", SEVERAL_URLS),
        ("amqp://a//, amqp://b//", SEVERAL_URLS),
        ("redis://:12#34@h/0", BAD_URL),
        ("redis://user:12/34@h/0", BAD_URL),
        ("amqp://user:12?34@h//", BAD_URL),
        ("amqp://user:12/34@h/v", BAD_URL),
        ("redis://h/0?password=p@ss", ""),
        ("amqp://user:p@ss@h/v", ""),
    ],
)
def test_what_cannot_be_one_url_is_told_apart(url: str, problem: str) -> None:
    """Given two URLs for one, or a password with characters that end it, the line says which it is: the rest would
    pass for a host, a port or a database.
    """
    assert problem_of(url) == problem


def test_the_configured_transport_options_win() -> None:
    """Given a transport option that the program sets too, the user's is taken."""
    settings = Broker(transport_options={"write_timeout": 1})

    assert connection_to("amqp://h//", settings, options={"write_timeout": 9, "x": 2}).transport_options == {
        "write_timeout": 1,
        "x": 2,
    }


def test_sentinel_urls_of_the_store() -> None:
    """Given a sentinel URL, its parts are the sentinels, the service and how to log in to the primary."""
    url = "sentinel://ann:p%40ss@s1:1,s2,[::1]:3,[fe80::1],s2:26379/main/3"

    assert parse_sentinel_url(url) == (
        (("s1", 1), ("s2", 26379), ("::1", 3), ("fe80::1", 26379)),
        "main",
        {"db": 3, "username": "ann", "password": "p@ss"},
        {},
    )


TLS = "ssl_ca_certs=/ca.pem&ssl_check_hostname=no&ssl_cert_reqs=CERT_OPTIONAL"
READ = {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_cert_reqs": "optional"}


@pytest.mark.parametrize(
    ("query", "primary", "to_sentinels"),
    [
        ("ssl=true", {"ssl": True}, {"ssl": True}),
        (TLS, {"ssl": True, **READ}, {"ssl": True, **READ}),
        (f"{TLS}&sentinel_ssl=false", {"ssl": True, **READ}, {"ssl": False}),
        (f"{TLS}&ssl=false&sentinel_ssl=true", {}, {"ssl": True, **READ}),
        ("sentinel_password=p%40ss&sentinel_username=ann", {}, {"username": "ann", "password": "p@ss"}),
        ("ssl=0", {}, {"ssl": False}),
    ],
)
def test_parameters_of_sentinel_urls(query: str, primary: dict[str, Any], to_sentinels: dict[str, Any]) -> None:
    """Given TLS parameters and logins, store and broker have the same TLS for the Redis, and the same for sentinels."""
    store = parse_sentinel_url(f"sentinel://:pw@s1/main?{query}")
    assert store.primary == {"db": 0, "password": "pw", **primary}
    assert store.to_sentinels == to_sentinels
    for options in (store.primary, store.to_sentinels):
        is_tls = isinstance(open_connection(("s1", 1), options), redis.connection.SSLConnection)
        assert is_tls is bool(options.get("ssl"))

    url = f"sentinel://:pw@s1/0?{query};sentinel://[::1]:2/0"
    broker = connection_to(url, Broker(url=url), options={})
    by_name = {name: getattr(value, "name", value) for name, value in (broker.ssl or {}).items()}
    if primary:
        verify = str(primary.get("ssl_cert_reqs", "required"))
        assert by_name == {
            **{name: value for name, value in primary.items() if name != "ssl"},
            "ssl_cert_reqs": f"CERT_{verify.upper()}",
        }
    else:
        assert broker.ssl is False
    told: dict[str, Any] = (broker.transport_options or {})["sentinel_kwargs"]
    assert told.get("ssl", False) is bool(to_sentinels.get("ssl"))
    assert to_sentinels.items() <= told.items()
    assert broker.alt == ["sentinel://:pw@s1/0", "sentinel://[::1]:2/0"]


@pytest.mark.parametrize(
    ("key", "url", "problem"),
    [
        (
            "store.url",
            "redis://h/0?ssl_ca_certs=/ca",
            "unknown parameter ssl_ca_certs; known are db, password, username; ",
        ),
        ("store.url", "rediss://h/0?ssl_cacerts=/ca", "unknown parameter ssl_cacerts; known are db, password, ssl_ca_"),
        ("store.url", "rediss://h/0?ssl_ca_certs=", "the parameter ssl_ca_certs has no value"),
        ("store.url", "rediss://h/0?ssl_cert_reqs=maybe", "the parameter ssl_cert_reqs is maybe; expected one of requ"),
        ("store.url", "rediss://h/0?ssl_check_hostname=x", "the parameter ssl_check_hostname is x; expected true or "),
        ("store.url", "redis://h/0?socket_timeout=60", "unknown parameter socket_timeout; known are db"),
        ("store.url", "unix:///run/redis?virtual_host=1", "unknown parameter virtual_host; known are db"),
        ("store.url", "sentinel://h/main?tls=1", "unknown parameter tls; known are sentinel_password, sentinel_ssl"),
        ("store.url", "sentinel://h/main?ssl=no&ssl_ca_certs=/ca", "ssl is false, and ssl_ca_certs would be ignored"),
        ("broker.url", "amqp://h//?heartbeat=600", "unknown parameter heartbeat; known are login_method; TLS is amqps"),
        ("broker.url", "amqps://h//?ssl_ca_certs=/ca", "unknown parameter ssl_ca_certs; known are login_method; TLS "),
        ("broker.url", "redis://h/0?x=1", "unknown parameter x; known are credential_provider; TLS is rediss://"),
        ("broker.url", "sentinel://h/0;sentinel://i/0?x=1", "unknown parameter x; known are credential_provider"),
        ("result_backend.url", "redis://h/1?global_keyprefix=x", "unknown parameter global_keyprefix; known are cl"),
        ("result_backend.url", "sentinel://h/1?x=1", "unknown parameter x; known are client_name"),
    ],
)
def test_parameters_that_would_be_ignored_are_refused(key: str, url: str, problem: str) -> None:
    """Given an unknown or senseless parameter, the one line names it and those that are known, and the setting."""
    with pytest.raises(ConfigurationError) as caught:
        validate(key, url)

    assert str(caught.value).startswith(f"{key} = {url.partition('?')[0]}?…: {problem}")
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("store.url", "redis://h?db=3&username=u&password=p"),
        ("store.url", f"rediss://h/0?{TLS}&ssl_ciphers=x"),
        ("store.url", "unix:///run/redis.sock?db=3"),
        ("broker.url", "amqp://h//?login_method=EXTERNAL"),
        ("broker.url", f"rediss://h/0?{TLS}"),
        ("broker.url", "unix:///run/redis.sock?virtual_host=2"),
        ("broker.url", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("result_backend.url", "redis://h/1?socket_timeout=3&health_check_interval=20"),
        ("result_backend.url", "rediss://h/1?ssl_ca_certs=/ca.pem"),
        ("result_backend.url", "cache+memory:///?anything=1"),
        ("result_backend.url", "sentinel://h/1?ssl=true;sentinel://i/1"),
    ],
)
def test_parameters_that_are_known_are_taken(key: str, url: str) -> None:
    """Given known parameters, also of a URL that another library reads, they are no mistake."""
    validate(key, url)


def validate(key: str, url: str) -> None:
    """As `ha-monitor check` does, and as far as one can go without a server."""
    if key == "store.url":
        StoreConnection(StoreSettings(url=url)).validate()
    elif key == "broker.url":
        for one in urls_of(url):
            connection_to(one, Broker(url=url), options={})
    else:
        ResultBackend(ResultSettings(url=url))


@pytest.mark.parametrize("url", ["amqp://ann:12?hunter2@h//", "redis://ann:12?hun=ter2@h/0", "redis://h/0?hun-ter2"])
def test_a_question_mark_in_a_password_shows_none_of_it(url: str) -> None:
    """Given an unescaped `?` in a password, the line says how it is written, and nothing of what it is."""
    with pytest.raises(ConfigurationError, match="must be written as") as caught:
        urls_of(url)

    assert not any(piece in str(caught.value) for piece in ("12", "hunter2", "ter2@", "hun="))


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:hunter2@/main",
        "sentinel://:hunter2@s1:x/main",
        "sentinel://:hunter2@s1:99999/main",
        "redis://:hunter2@host:99999/0",
        "redis://:hunter2@a..b/0",
        "sentinel://:hunter2@a..b/main",
        "sentinel://:hunter2@s1",
        "sentinel://:hunter2@s1/main/zero",
        "redis://:hunt/er2@host:6379/0",
        "redis://:hunter2@host:port/0",
        "http://:hunter2@host/0",
        "redis://:hunter2@host/0?hunger=1",
    ],
)
def test_a_store_url_that_cannot_be_used_is_refused_without_the_password(url: str) -> None:
    """Given a wrong store URL, connecting is a configuration error at once, and the password is not in it."""
    with pytest.raises(ConfigurationError, match=r"^store\.url = ") as caught:
        StoreConnection(StoreSettings(url=url)).connect()

    assert "hunt" not in str(caught.value).replace("hunger", "")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        *(("redis://h", ""), ("redis://h/", ""), ("redis://h:1/15", ""), ("rediss://u:p@h/0?x=/abc", "")),
        *(("redis://h/abc", BAD_DATABASE), ("rediss://h/0x", BAD_DATABASE), ("redis://h/1/2", BAD_DATABASE)),
        ("redis://h/\u0661", BAD_DATABASE),
        ("sentinel://a:1;sentinel://b:1/2", ""),
        ("sentinel://a:1;sentinel://b:1/main", BAD_DATABASE),
        *(("amqp://h/abc", ""), ("unix:///run/redis.sock", ""), ("redis+socket:///run/redis", "")),
        *(("redis://h:99999/0", BAD_PORT), ("redis://h:0/0", BAD_PORT), ("amqps://h:65536//", BAD_PORT)),
        ("sentinel://a:1;sentinel://b:99999/2", BAD_PORT),
        *((f"redis://{'x' * 64}/0", BAD_HOST), ("amqp://a..b//", BAD_HOST), ("redis://[::1]:6379/0", "")),
        *(("redis://h:port/0", BAD_URL), ("redis://:a/b@h/0", BAD_URL), ("redis://[::1/0", BAD_URL)),
        *(("mongodb://a:1,b:2/db", ""), ("cache+memcached://a:1;b:2/", ""), ("file:///results", "")),
    ],
)
def test_what_is_wrong_with_a_url_of_rabbitmq_or_redis(url: str, problem: str) -> None:
    """Given a URL, its port is one, and the database of a Redis is a number or not there; other kinds pass."""
    assert problem_of(url) == problem


@pytest.mark.parametrize("url", ["redis://:hunter2@h/abc", "sentinel://:hunter2@h:1/abc"])
def test_a_database_that_is_no_number_is_refused_at_once(url: str) -> None:
    """Given a database that is no number, as broker, store or result backend, it is refused with a text that says what
    is expected and no password."""
    refusals = [lambda: urls_of(url), lambda: ResultBackend(ResultSettings(url=url))]
    if url.startswith("redis"):
        refusals.append(StoreConnection(StoreSettings(url=url)).validate)
    for refused in refusals:
        with pytest.raises(ConfigurationError, match="expected a number as the database") as caught:
            refused()
        assert "hunter2" not in str(caught.value)
