"""What libraries raise, as one line for a person: which setting is wrong, and whether waiting helps."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import amqp.exceptions
import hiredis
import pytest
import redis.exceptions
import redis.sentinel

from ha_monitor.causes.connection import cause_of
from ha_monitor.causes.redis import refusal_of
from ha_monitor.causes.service import Service
from tests.support.certificates import Certificate

AMQPS = Service("broker.url", "amqps://u:hunter22@h//", "broker.connect_timeout", 3.0, {}, "broker.tls")
AMQP = AMQPS._replace(url="amqp://u:hunter22@h//")
REDISS = Service("store.url", "rediss://:hunter22@h/0", "store.timeout", 3.0)
REDIS = REDISS._replace(url="redis://:hunter22@h/0")


def as_redis_py(error: Exception, text: str = "Error connecting to h:1.") -> Exception:
    """The error as redis-py raises it: one of its own, with that of the socket as the context."""
    try:
        try:
            raise error
        except Exception:
            raise redis.exceptions.ConnectionError(text)  # noqa: B904 - as redis-py does
    except redis.exceptions.ConnectionError as outer:
        return outer


def of_openssl(reason: str, text: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    return kind(1, f"[SSL: {reason}] {text} (_ssl.c:1006)")


UNTRUSTED = of_openssl(
    "CERTIFICATE_VERIFY_FAILED", "certificate verify failed: self-signed certificate", ssl.SSLCertVerificationError
)
MISMATCH = of_openssl(
    "CERTIFICATE_VERIFY_FAILED",
    "certificate verify failed: Hostname mismatch, certificate is not valid for 'h'.",
    ssl.SSLCertVerificationError,
)
EXPIRED = of_openssl(
    "CERTIFICATE_VERIFY_FAILED", "certificate verify failed: certificate has expired", ssl.SSLCertVerificationError
)
NO_TLS = of_openssl("WRONG_VERSION_NUMBER", "wrong version number")
WANTS_ONE = of_openssl("TLSV13_ALERT_CERTIFICATE_REQUIRED", "tlsv13 alert certificate required")
RESET = ConnectionResetError(104, "Connection reset by peer")
EOF = ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1006)")
HANGS = "no answer within 3 s ({}): it hangs, the network drops what is sent, or the port in {} is not one for {}://"


@pytest.mark.parametrize("seen_as", [lambda error: error, as_redis_py], ids=["itself", "wrapped"])
@pytest.mark.parametrize(
    ("error", "service", "text", "lasting"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            AMQP,
            "the name of this host cannot be resolved (Name or service not known): correct broker.url",
            True,
        ),
        (
            socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            REDIS,
            "Temporary failure in name resolution",
            False,
        ),
        (ConnectionRefusedError(111, "Connection refused"), REDIS, "Connection refused", False),
        (
            UNTRUSTED,
            AMQPS,
            "certificate verify failed: self-signed certificate: nobody trusted here signed it; set "
            "broker.tls.ca_certs to the file with the certificate of its authority",
            True,
        ),
        (
            UNTRUSTED,
            REDISS,
            "certificate verify failed: self-signed certificate: nobody trusted here signed it; set ssl_ca_certs in "
            "store.url to the file with the certificate of its authority",
            True,
        ),
        (
            MISMATCH,
            AMQPS,
            "certificate verify failed: Hostname mismatch, certificate is not valid for 'h': name the host in "
            "broker.url as its certificate does",
            True,
        ),
        (
            EXPIRED,
            REDISS,
            "certificate verify failed: certificate has expired: renew it, unless a clock is wrong",
            True,
        ),
        (
            NO_TLS,
            AMQPS,
            "what answers there does not speak TLS (wrong version number): correct the port in broker.url, or use "
            "amqp:// instead of amqps://",
            True,
        ),
        (
            NO_TLS,
            AMQP._replace(tls={"cert_reqs": "required"}),
            "what answers there does not speak TLS (wrong version number): correct the port in broker.url, or use no "
            "broker.tls",
            True,
        ),
        (
            WANTS_ONE,
            REDISS,
            "the other side wants a certificate of this one, or does not accept it (tlsv13 alert certificate "
            "required): set ssl_certfile in store.url and ssl_keyfile in store.url",
            True,
        ),
        (
            RESET,
            AMQP,
            "Connection reset by peer, right after connecting: the port in broker.url may be one for TLS; then use "
            "amqps:// instead of amqp://",
            False,
        ),
        (
            EOF,
            REDISS,
            "EOF occurred in violation of protocol, right after connecting: the port in store.url may be one without "
            "TLS; then use redis:// instead of rediss://",
            False,
        ),
        (TimeoutError("timed out"), AMQP, HANGS.format("broker.connect_timeout", "broker.url", "amqp"), False),
        (TimeoutError("_ssl.c:989: The handshake operation timed out"), REDISS,
         HANGS.format("store.timeout", "store.url", "rediss"), False),
    ],
    ids=repr,
)  # fmt: skip
def test_why_a_service_cannot_be_reached(
    seen_as: Callable[[Exception], Exception], error: Exception, service: Service, text: str, *, lasting: bool
) -> None:
    """Given what a library raises while it connects, the text names the setting and the cure, and whether waiting
    helps."""
    assert cause_of(seen_as(error), service, connecting=True) == (text, lasting)


@pytest.mark.parametrize(
    ("error", "service", "text", "lasting"),
    [
        (hiredis.ProtocolError('Protocol error, got "A" as reply type byte'), REDIS,
         "RabbitMQ answers there, not Redis: correct store.url", True),
        (redis.exceptions.InvalidResponse('Protocol error, got "\\x15" as reply type byte'), REDIS,
         "what answers there speaks TLS: use rediss:// instead of redis://", True),
        (redis.exceptions.InvalidResponse('Protocol error, got "H" as reply type byte'), REDIS,
         'what answers there is no Redis (Protocol error, got "H" as reply type byte): correct store.url', True),
        (amqp.exceptions.UnexpectedFrame("Received frame_end 0x0a while expecting 0xce"), AMQP,
         "what answers there is no RabbitMQ (Received frame_end 0x0a while expecting 0xce): correct broker.url", True),
        (OSError("Server unexpectedly closed connection"), AMQP,
         "Server unexpectedly closed connection, right after connecting: the port in broker.url may be one for TLS; "
         "then use amqps:// instead of amqp://", False),
        (redis.sentinel.MasterNotFoundError(
            "No master found for 'main' : Redis<ConnectionPool<Connection<h=1>>> - ConnectionError('Error 111')"),
         AMQP._replace(url="sentinel://h:1"),
         "the sentinels name no primary: they do not answer, know it by another name than the one in broker.url or "
         "master_name, or it is down", False),
        (redis.exceptions.ConnectionError(
            "no slot for <redis.connection.Connection(host=h,port=1) at 0x7f3a>, of Redis<Pool<Connection<host=h>>>"),
         REDIS, "no slot for …, of …", False),
        (redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"), REDIS,
         "Redis is loading its data, and answers when it is done", False),
        (redis.exceptions.ConnectionError("max number of clients reached"), REDIS,
         "Redis has as many clients as its maxclients allows: raise that", False),
    ],
    ids=repr,
)  # fmt: skip
def test_what_answers_at_a_wrong_port(error: Exception, service: Service, text: str, *, lasting: bool) -> None:
    """Given words of another protocol, the text says what it is, and no object of a library is shown."""
    assert cause_of(error, service, connecting=True) == (text, lasting)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RESET, "Connection reset by peer"),
        (redis.exceptions.TimeoutError("Timeout reading from socket"), "no answer within 3 s (store.timeout)"),
        (as_redis_py(RESET, "Error while reading from socket: (104, 'Connection reset by peer')"),
         "Connection reset by peer"),
        (redis.exceptions.ConnectionError("Connection closed by server."), "Connection closed by server."),
    ],
    ids=repr,
)  # fmt: skip
def test_a_connection_that_worked_has_the_right_port(error: Exception, text: str) -> None:
    """Given an error on a connection that was used, the text does not doubt scheme and port."""
    assert cause_of(error, REDIS) == (text, False)


@pytest.mark.parametrize(
    ("error", "text", "lasting"),
    [
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
         "this is a replica; name the primary, or use a sentinel:// URL", False),
        (redis.exceptions.ResponseError(f"READONLY You can't write. script: {'4' * 40}, on @user_script:7."),
         "this is a replica; name the primary, or use a sentinel:// URL", False),
        (redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
         "Redis is at its maxmemory; give it more, or keep less (store.success_ttl)", False),
        (redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
         "it takes no writes, since it cannot write its append-only file (No space left on device): free space on "
         "its disk", False),
        (redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's currently …"),
         "it takes no writes, since its last save to disk failed: its log says why, mostly a full disk or a folder "
         "that it may not write; it takes writes again once BGSAVE succeeds", False),
        (redis.exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
         "it takes no writes, since fewer replicas follow it than its min-replicas-to-write demands: start them, or "
         "lower that", False),
        (redis.exceptions.ResponseError("unknown command 'SCRIPT', with args beginning with: 'LOAD' '-- source"),
         "Redis does not know the command SCRIPT: it is too old, or rename-command in its configuration removed "
         "it; restore its name", True),
        (redis.exceptions.ResponseError(
            f"Unknown Redis command called from script script: {'4' * 40}, on @user_script:7."),
         "Redis does not know the command TIME: it is too old, or rename-command in its configuration removed it; "
         "restore its name", True),
        (redis.exceptions.NoScriptError("No matching script. Please use EVAL."),
         "Redis has forgotten the scripts (NOSCRIPT), as after a restart; they are loaded again", False),
        (redis.exceptions.ResponseError("DB index is out of range"),
         "DB index is out of range: correct the database in store.url, or raise `databases` in the configuration of "
         "Redis", True),
        (redis.exceptions.ResponseError(
            f"user_script:7: attempt to index a nil value script: {'4' * 40}, on @user_script:7."),
         "attempt to index a nil value", False),
        (redis.exceptions.ResponseError(
            f"ERR Error running script (call to f_{'4' * 40}): @user_script:7: user_script:7: bad argument"),
         "bad argument", False),
    ],
    ids=repr,
)  # fmt: skip
def test_what_redis_refuses(error: Exception, text: str, *, lasting: bool) -> None:
    """Given a refusal in the words of any version of Redis, the text says what to do, and shows no script."""
    assert refusal_of(error, "store.url", "time") == (text, lasting)


NO_FILE = FileNotFoundError(2, "No such file or directory")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ca_certs": "/no/ca"}, NO_FILE, "broker.tls.ca_certs = /no/ca: No such file or directory"),
        ({"ca_certs": "{ca}", "certfile": "{cert}", "keyfile": "/no/key"}, NO_FILE,
         "broker.tls.keyfile = /no/key: No such file or directory"),
        ({"ca_certs": "/etc"}, IsADirectoryError(21, "Is a directory"), "broker.tls.ca_certs = /etc: Is a directory"),
        ({"ca_certs": "/etc/hostname"}, ssl.SSLError(1, "[X509] no certificate"),
         "broker.tls.ca_certs = /etc/hostname cannot be used: "),
        ({"certfile": "{cert}", "keyfile": "{ca}"}, ssl.SSLError(1, "[SSL] PEM lib"),
         "broker.tls.certfile = {cert} with broker.tls.keyfile = {ca} cannot be used: "),
    ],
)  # fmt: skip
def test_a_file_of_tls_that_cannot_be_used_is_named(
    certificates: list[Certificate], options: dict[str, str], error: Exception, text: str
) -> None:
    """Given settings that name a file that is missing or has something else, the text names setting and file."""
    ours = {name: str(path) for name, path in certificates[0]._asdict().items()}
    service = AMQPS._replace(tls={name: path.format_map(ours) for name, path in options.items()})

    for raised in (error, as_redis_py(error)):
        cause = cause_of(raised, service, connecting=True)

        assert cause.text.startswith(text.format_map(ours))
        assert cause.lasting


def test_a_file_that_a_url_names_is_named_by_the_url(tmp_path: Path) -> None:
    """Given a parameter of the URL, as `store.url` has them, the text names it; and a good file is not accused."""
    missing = REDISS._replace(url=f"{REDISS.url}?ssl_ca_certs={tmp_path}/none")

    assert cause_of(as_redis_py(NO_FILE), missing, connecting=True).text == (
        f"ssl_ca_certs in store.url = {tmp_path}/none: No such file or directory"
    )
    assert cause_of(NO_FILE, REDISS._replace(url="rediss:///run/none"), connecting=True).text == (
        "No such file or directory"
    )
