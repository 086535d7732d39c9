"""Each channel against a real service, and against one that does not behave."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ha_monitor.clock import SystemClock
from ha_monitor.config.notify import (
    Alertmanager,
    ChannelSettings,
    Email,
    Exec,
    Heartbeat,
    PagerDuty,
    Secrets,
    Webhook,
)
from ha_monitor.notify.channel import Channel, Deadline, LoginRefused, Refused, TryAgain
from ha_monitor.notify.channels import make_channel
from ha_monitor.notify.message import lines_of
from tests.conftest import missing
from tests.support.alertmanager import PrivateAlertmanager
from tests.support.certificates import Certificate
from tests.support.messages_shown import KEY, MAIL, blocks, documents, message_to, shown_mail
from tests.support.process import ServiceMissing, wait_for_value, wait_until
from tests.support.receivers import Behaviour, HttpReceiver, MailReceiver, SilentServer, answering, trickling
from tests.unit.test_notify_message import ended, incident, message

SHORT = 1.0
"""Seconds for a delivery."""


def made(settings: ChannelSettings, **secrets: str) -> Channel:
    return make_channel(settings, Secrets(**secrets))


def deadline(seconds: float = 30.0) -> Deadline:
    return Deadline(SystemClock(), seconds)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def trusted(certificates: list[Certificate], monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """A certificate that this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates[0].ca))
    return certificates[0]


def test_a_webhook_is_json_with_a_signature_and_an_id(receiver: HttpReceiver) -> None:
    """Given a key, the body is signed with it, and has the id of the message, as a header has."""
    assert made(Webhook(receiver.url), key="s3cret").deliver(message(), deadline()) == ""

    (request,) = receiver.received
    expected = hmac.new(b"s3cret", request.body, "sha256").hexdigest()
    assert request.headers["X-Signature-256"] == f"sha256={expected}"
    assert request.headers["X-Delivery-Id"] == request.document["id"] == "4c1f.chat.1"
    assert request.document["incidents"][0]["summary"] == incident().summary


def test_pagerduty_gets_an_event_for_each_incident(receiver: HttpReceiver) -> None:
    """Given a message that one incident fires and another ended, both events have the key and are taken."""
    both = message(message().notices[0], ended("b"))
    made(PagerDuty(receiver.url), key="integration").deliver(both, deadline())

    events = [request.document for request in receiver.received]
    assert [(one["event_action"], one["dedup_key"], one["routing_key"]) for one in events] == [
        ("trigger", "4c1f", "integration"),
        ("resolve", "b", "integration"),
    ]


def test_a_heartbeat_fetches_its_secret_url(receiver: HttpReceiver) -> None:
    """Given a URL that is a secret, it is fetched."""
    made(Heartbeat(), url=receiver.url).deliver(message(), deadline())

    assert [(request.method, request.path) for request in receiver.received] == [("GET", "/hook")]


def test_alertmanager_takes_an_alert_and_its_end(receiver: HttpReceiver) -> None:
    """Given the distribution's Alertmanager, it has the incident, tells its own receiver, and tells when it is over;
    another member that is down is named and keeps nobody from being told."""
    try:
        server = PrivateAlertmanager(receiver.url)
    except ServiceMissing as error:
        missing(error)
    with server:
        now = time.time()
        channel = made(Alertmanager(urls=[server.url, "http://127.0.0.1:9"]))
        firing = message(at=now)
        remark = channel.deliver(firing, deadline())
        wait_for_value(lambda: len(receiver.received), 1, 30, "the word of Alertmanager")
        channel.deliver(message(ended()._replace(ended=now), at=now), deadline())
        wait_for_value(lambda: len(receiver.received), 2, 30, "the end")

        assert remark == "http://127.0.0.1:9: Connection refused"
        assert [request.document["status"] for request in receiver.received] == ["firing", "resolved"]
        assert receiver.received[0].document["alerts"][0]["labels"]["incident"] == "4c1f"
        with pytest.raises(TryAgain, match=r"127\.0\.0\.1:9: "):
            channel.probe(deadline())
        assert made(Alertmanager(urls=[server.url])).probe(deadline()) == "1 member answers"


def test_what_the_documentation_shows_is_what_arrives(receiver: HttpReceiver) -> None:
    """Given the documented incident, the distribution's Alertmanager has the alert, a mail server the mail, and whoever
    serves a webhook or PagerDuty's interface the documents that are shown."""
    try:
        alertmanager = PrivateAlertmanager(receiver.url)
    except ServiceMissing as error:
        missing(error)
    shown = documents()
    made(PagerDuty(receiver.url), key=KEY).deliver(message_to("pager"), deadline())
    for template in ("json", "slack", "mattermost"):
        made(Webhook(receiver.url, template=template)).deliver(message_to("chat"), deadline())
    assert [request.document for request in receiver.received] == [
        shown[name] for name in ("pagerduty", "json", "slack", "mattermost")
    ]
    with MailReceiver() as server:
        settings = msgspec.structs.replace(MAIL, port=server.port, tls="none")
        made(settings).deliver(message_to("mail"), deadline())
        (mail,) = server.mails
        assert f"```\n{shown_mail(mail)}\n```" == blocks()["email"]
    with alertmanager:
        # With the time of now, since one that has ended is not shown.
        made(Alertmanager(urls=[alertmanager.url])).deliver(message_to("alerts", at=time.time()), deadline())
        (alert,) = wait_until(alertmanager.alerts, 30, "the alert")
        expected = shown["alertmanager"]
        assert (alert["labels"], alert["generatorURL"]) == (expected["labels"], expected["generatorURL"])
        assert without_times(alert["annotations"]) == without_times(expected["annotations"])


def without_times(annotations: dict[str, str]) -> dict[str, str]:
    """Without the line that says since when."""
    return annotations | {"description": annotations["description"].partition("\n")[2]}


def hanging(handler: object, received: object) -> None:
    time.sleep(3 * SHORT)


ended_by_test = threading.Event()
BEHAVIOURS = [
    pytest.param(answering(500, b"boom\x1b[2J"), TryAgain, r"it answers 500: boom\\x1b\[2J$", False, id="500"),
    pytest.param(answering(429), TryAgain, "it answers 429", False, id="too many"),
    pytest.param(answering(404, b"no such hook"), Refused, "it answers 404: no such hook", False, id="404"),
    pytest.param(answering(302, Location="http://127.0.0.1:1/"), Refused, "a redirect", False, id="redirect"),
    pytest.param(hanging, TryAgain, "no .*answer", True, id="hangs"),
    pytest.param(trickling(b"x", ended_by_test), TryAgain, "no .*answer", True, id="trickles"),
]


@pytest.mark.parametrize(("behaviour", "error", "text", "maybe_taken"), BEHAVIOURS)
def test_a_service_that_does_not_take_a_message_is_told_apart(
    receiver: HttpReceiver, behaviour: Behaviour, error: type[Exception], text: str, maybe_taken: bool
) -> None:
    """Given a service that fails, refuses, leads elsewhere or hangs, that is over within the deadline, and said in one
    line; only where it may have taken the message, that is known."""
    receiver.behaviour = behaviour
    began = time.monotonic()
    with pytest.raises(error, match=text) as caught:
        made(Webhook(receiver.url)).deliver(message(), deadline(SHORT))

    assert time.monotonic() - began < 10 * SHORT
    assert isinstance(caught.value, Refused) or caught.value.maybe_taken == maybe_taken  # type: ignore[attr-defined]
    assert len(receiver.received) == 1


def test_an_endless_answer_is_read_no_further_than_needed(receiver: HttpReceiver) -> None:
    """Given a service that answers 200 with megabytes, the message is taken after some kilobytes of them."""
    receiver.behaviour = answering(200, b"x" * 50_000_000)

    assert made(Webhook(receiver.url)).deliver(message(), deadline()) == ""


def test_a_service_that_is_not_there_has_taken_nothing() -> None:
    """Given a port at which nothing listens, the message may be planned anew."""
    with pytest.raises(TryAgain, match="Connection refused") as caught:
        made(Webhook("http://127.0.0.1:9/")).deliver(message(), deadline())

    assert not caught.value.maybe_taken


def test_what_answers_no_http_is_named() -> None:
    """Given a server of another kind, the line says so."""
    with SilentServer(b"hello\r\n\r\n") as server, pytest.raises(TryAgain, match="the answer is not HTTP"):
        made(Webhook(f"http://127.0.0.1:{server.port}/")).deliver(message(), deadline())


def test_certificates_are_verified(trusted: Certificate, certificates: list[Certificate]) -> None:
    """Given two services, the one whose certificate a trusted authority signed gets the message, and the other gets
    nothing."""
    with HttpReceiver(certificate=trusted) as good, HttpReceiver(certificate=certificates[1]) as bad:
        made(Webhook(good.url)).deliver(message(), deadline())
        with pytest.raises(TryAgain, match="its certificate cannot be trusted"):
            made(Webhook(bad.url)).deliver(message(), deadline())

        assert (len(good.received), len(bad.received)) == (1, 0)


def test_a_handshake_that_never_ends_is_bounded() -> None:
    """Given a server that talks no TLS and says nothing, the attempt ends with the deadline."""
    with SilentServer() as server, pytest.raises(TryAgain):
        made(Webhook(f"https://127.0.0.1:{server.port}/")).deliver(message(), deadline(SHORT))


def mail_settings(port: int, **changes: object) -> Email:
    known: dict[str, object] = {"to": ["ops@example.org", "boss@example.org"], "sender": "Monitor <m@example.org>"}
    return Email(**{**known, "port": port, "tls": "none", **changes})  # type: ignore[arg-type]


def test_a_mail_arrives_with_tls_and_a_password(trusted: Certificate) -> None:
    """Given a real mail server that wants STARTTLS and a password, the mail arrives at all addresses; with a wrong
    password it is refused, and the password is in no line."""
    with MailReceiver(trusted, password="pa55word") as server:
        settings = mail_settings(server.port, tls="starttls", username="monitor")
        assert made(settings, password="pa55word").deliver(message(), deadline()) == ""
        assert made(settings, password="pa55word").probe(deadline()).endswith("answers, and accepts the password")
        with pytest.raises(LoginRefused, match="it answers 535") as caught:
            made(settings, password="wr0ng").deliver(message(), deadline())

        (mail,) = server.mails
        assert mail["Subject"] == f"[ha-monitor] {lines_of(message())[0]}"
        assert "$ ha-monitor workers celery@app3" in mail.get_payload(decode=True).decode()  # type: ignore[union-attr]
        assert mail["To"] == "ops@example.org, boss@example.org"
        assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "kind", "said"),
    [
        pytest.param(["550 unknown", "450 greylisted"], TryAgain, "it answers 450 greylisted", id="one for now"),
        pytest.param(["550 unknown", "554 no"], Refused, "it answers 550 unknown", id="both for good"),
    ],
)
def test_a_mail_that_no_address_takes_is_tried_again_soon_if_one_may(
    answers: list[str], kind: type[Exception], said: str
) -> None:
    """Given a mail server that refuses both addresses, the mail is tried again soon if one is refused for now only."""
    left = list(answers)

    class Refusing(MailReceiver):
        async def handle_RCPT(self, *_: object) -> str:
            return left.pop(0)

    with Refusing() as server:
        settings = mail_settings(server.port)
        with pytest.raises(kind, match=said):
            made(settings).deliver(message(), deadline())


def test_a_password_is_not_sent_to_a_server_that_is_not_trusted(certificates: list[Certificate]) -> None:
    """Given a mail server with a certificate that nobody signed who is trusted, nothing is sent."""
    with MailReceiver(certificates[1], password="pa55word") as server:
        settings = mail_settings(server.port, tls="starttls", username="monitor")
        with pytest.raises(TryAgain, match="its certificate cannot be trusted"):
            made(settings, password="pa55word").deliver(message(), deadline())

        assert server.mails == []


@pytest.mark.parametrize(("answer", "error"), [("451 later", TryAgain), ("554 never", Refused)])
def test_what_a_mail_server_answers_says_whether_to_try_again(answer: str, error: type[Exception]) -> None:
    """Given a mail server that does not take a mail, 4xx is tried again, and 5xx is a refusal."""
    with MailReceiver() as server:
        server.before = lambda _mail: answer
        with pytest.raises(error, match=answer):
            made(mail_settings(server.port)).deliver(message(), deadline())


@pytest.mark.parametrize("says", [b"", b"2", b"220-x\r\n"])
def test_a_mail_server_that_hangs_is_bounded(says: bytes) -> None:
    """Given a mail server that says nothing, a byte at a time, or lines without an end, the attempt ends."""
    began = time.monotonic()
    with SilentServer(says) as server, pytest.raises(TryAgain):
        made(mail_settings(server.port)).deliver(message(), deadline(SHORT))

    assert time.monotonic() - began < 10 * SHORT


def shell(text: str) -> Channel:
    return made(Exec(["sh", "-c", text]))


def test_a_program_gets_the_message_and_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a program, it gets the message as JSON, and its id in the environment, where no setting is."""
    monkeypatch.setenv("HA_MONITOR_STORE_URL", "redis://:hunter2@host/0")
    shell(f"cat >{tmp_path}/message; env >{tmp_path}/environment").deliver(message(), deadline())

    assert json.loads((tmp_path / "message").read_text())["id"] == "4c1f.chat.1"
    environment = (tmp_path / "environment").read_text()
    assert "HA_MONITOR_DELIVERY_ID=4c1f.chat.1\n" in environment
    assert "hunter2" not in environment


PROGRAMS = [
    pytest.param("exit 75", TryAgain, "exit status 75", id="not now"),
    pytest.param("echo wrong >&2; exit 2", Refused, "exit status 2: wrong", id="refused"),
    pytest.param("kill -9 $$", Refused, "exit status -9", id="killed"),
    pytest.param("yes >&2", TryAgain, "did not end within", id="talks without an end"),
]


@pytest.mark.parametrize(("text", "error", "said"), PROGRAMS)
def test_how_a_program_ends_says_what_to_do(text: str, error: type[Exception], said: str) -> None:
    """Given a program that fails, its status says whether to try again; what it says is in the line, shortened."""
    with pytest.raises(error, match=said):
        shell(text).deliver(message(), deadline(SHORT))


def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """Given a program and a child of it that do not end, both are gone when the delivery has failed."""
    with pytest.raises(TryAgain, match="did not end within") as caught:
        shell(f"sleep 1000 & echo $! >{tmp_path}/child; sleep 1000").deliver(message(), deadline(SHORT))

    child = int((tmp_path / "child").read_text())
    assert caught.value.maybe_taken

    wait_until(lambda: _has_ended(child), 10, "the end of the child")


def test_a_program_may_leave_nothing_behind(tmp_path: Path) -> None:
    """Given a program that ends and leaves a child that writes on and on, the message is taken, and the child ends."""
    shell(f"(yes >&2) & echo $! >{tmp_path}/child").deliver(message(), deadline())

    child = int((tmp_path / "child").read_text())
    wait_until(lambda: _has_ended(child), 10, "the end of the child")


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


PROBES: list[tuple[Callable[[str], Channel], str]] = [
    (lambda url: made(Webhook(url)), "can be reached"),
    (lambda url: made(PagerDuty(url), key="k"), "can be reached"),
    (lambda url: made(Heartbeat(url)), "can be reached"),
    (lambda url: shell("true"), "sh can be executed"),
]


@pytest.mark.parametrize(("make", "said"), PROBES)
def test_asking_a_channel_sends_nothing(receiver: HttpReceiver, make: Callable[[str], Channel], said: str) -> None:
    """Given a channel that is there, asking it says so, and sends no message."""
    assert said in make(receiver.url).probe(deadline())
    assert receiver.received == []
