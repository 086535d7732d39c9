"""What a message says, whatever an incident holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ha_monitor.config.notify import Email, Secrets
from ha_monitor.notify.channels.alertmanager import RESOLVED_AFTER, alert_of
from ha_monitor.notify.channels.email import mail_of
from ha_monitor.notify.channels.pagerduty import event_of
from ha_monitor.notify.channels.webhook import mattermost_of, slack_of
from ha_monitor.notify.message import Message, Notice, document_of, lines_of, title_of
from ha_monitor.store.incidents import Incident, Phase, Severity
from tests.support.messages_shown import blocks

AT = 1_764_100_000.0
DOCS = Path(__file__).resolve().parents[2] / "docs"
HOSTILE = "x\x1b[2J\n\u202e<!channel> @channel `rm` \x00\ud800" + "ä" * 100_000


def incident(name: str = "4c1f", **changes: Any) -> Incident:
    known: dict[str, Any] = {
        "id": name,
        "kind": "worker-lost",
        "key": "celery@app3",
        "severity": Severity.PAGE,
        "phase": Phase.FIRING,
        "since": AT - 180,
        "changed": AT - 120,
        "summary": "worker celery@app3 is lost, 12 of its tasks are being asked for",
        "facts": {"before": "deploy v512, 2 min earlier"},
        "command": "ha-monitor workers celery@app3",
    }
    return Incident(**{**known, **changes})


def message(*notices: Notice, **changes: Any) -> Message:
    given = notices or (Notice("4c1f.chat.1", Phase.FIRING, incident()),)
    return Message(given[0].id, "shop", given, AT, base_url="https://monitor.example")._replace(**changes)


def ended(name: str = "4c1f") -> Notice:
    return Notice(f"{name}.chat.2", Phase.RESOLVED, incident(name), ended=AT - 60)


def several(count: int) -> Message:
    return message(*(Notice(f"i{number}.chat.1", Phase.FIRING, incident(f"i{number}")) for number in range(count)))


def test_a_message_says_what_since_when_what_before_where_and_which_command() -> None:
    """Given one incident with all that may be known, the five lines are these."""
    assert lines_of(message()) == [
        "page: worker celery@app3 is lost, 12 of its tasks are being asked for (shop)",
        "since 2025-11-25 19:43:40 UTC (3m0s)",
        "before it: deploy v512, 2 min earlier",
        "https://monitor.example/workers/celery%40app3",
        "$ ha-monitor workers celery@app3",
    ]


def test_what_is_not_known_has_no_line() -> None:
    """Given an incident of which little is known, and no pages, the message is short."""
    bare = Notice("4c1f.chat.1", Phase.FIRING, incident(facts={}, command=""))

    assert lines_of(message(bare, base_url="")) == [
        "page: worker celery@app3 is lost, 12 of its tasks are being asked for (shop)",
        "since 2025-11-25 19:43:40 UTC (3m0s)",
    ]


def test_an_end_says_how_long_it_lasted() -> None:
    """Given an incident that is over, the message says since when, and names no command."""
    assert lines_of(message(ended()))[:2] == [
        "resolved: worker celery@app3 is lost, 12 of its tasks are being asked for (shop)",
        "resolved at 2025-11-25 19:45:40 UTC, lasted 2m0s",
    ]


def test_several_are_counted_and_the_first_are_shown() -> None:
    """Given many incidents in one message, it has five lines, and says how many more there are."""
    lines = lines_of(several(12))

    assert lines[0] == "12 problems: worker-lost (shop)"
    assert len(lines) == 5
    assert lines[4] == "and 10 more: $ ha-monitor problems"


def test_a_digest_says_that_it_is_one() -> None:
    """Given the last message of an hour, a person learns why the next one is late."""
    assert lines_of(several(3)._replace(is_digest=True))[-1].endswith("this is a digest, and the next one comes later)")


def test_what_fires_and_what_is_over_are_counted_apart() -> None:
    """Given both in one message, the title has both numbers."""
    both = message(Notice("a.chat.1", Phase.FIRING, incident("a")), ended("b"))

    assert title_of(both) == "1 problem and 1 resolved: worker-lost (shop)"


def hostile(phase: Phase = Phase.FIRING) -> Message:
    facts = {HOSTILE: HOSTILE, "before": HOSTILE, **{f"fact-{number}": "y" for number in range(1000)}}
    bad = incident(summary=HOSTILE, key=HOSTILE, kind=HOSTILE, command=HOSTILE, facts=facts, since=1e300)
    return message(Notice("a.chat.1", phase, bad, ended=-1e300), node_id=HOSTILE)


@pytest.mark.parametrize("phase", [Phase.FIRING, Phase.RESOLVED])
def test_nothing_in_an_incident_reaches_a_terminal_or_is_endless(phase: Phase) -> None:
    """Given an incident of hostile, huge texts and times, each line is short and shows every character."""
    lines = lines_of(hostile(phase))

    assert len(lines) <= 5
    assert all(len(one) <= 400 and one.isprintable() for one in lines)


def data_of(bad: Message) -> dict[str, Any]:
    notice = bad.notices[0]
    return {
        "json": document_of(bad),
        "alertmanager": alert_of(notice, bad),
        "pagerduty": event_of(notice, bad, "key"),
        "slack": slack_of(bad),
        "mattermost": mattermost_of(bad),
    }


@pytest.mark.parametrize("form", ["json", "alertmanager", "pagerduty", "slack", "mattermost"])
def test_data_is_bounded_and_valid_whatever_an_incident_holds(form: str) -> None:
    """Given the same, what is sent is valid JSON of some kilobytes without control characters."""
    raw = msgspec.json.encode(data_of(hostile())[form])

    assert len(raw) < 40_000
    assert "\\u001b" not in raw.decode() and "\\u0000" not in raw.decode()


def test_a_chat_calls_nobody_because_of_what_an_event_says() -> None:
    """Given the words by which chats call everybody, they are text to Slack and to Mattermost."""
    slack, mattermost = slack_of(hostile())["text"], mattermost_of(hostile())["text"]

    assert "<" not in slack and "&lt;!channel&gt;" in slack
    assert mattermost.startswith("```text\n") and mattermost.endswith("\n```") and "`" not in mattermost[8:-4]


def test_pagerduty_is_told_to_open_and_to_close_the_same_incident() -> None:
    """Given a message and the end of it, both events have the key of the incident."""
    opened, closed = event_of(message().notices[0], message(), "k"), event_of(ended(), message(ended()), "k")

    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == "4c1f"
    assert opened["payload"]["severity"] == "critical"


def test_an_alert_keeps_its_labels_and_ends_when_the_incident_did() -> None:
    """Given an incident that fires and ends, Alertmanager is given the same labels and the time of the end; one that
    fires ends by itself some minutes after the last message."""
    firing, resolved = alert_of(message().notices[0], message()), alert_of(ended(), message(ended()))

    assert firing["labels"] == resolved["labels"]
    assert firing["endsAt"] == "2025-11-25T19:51:40Z" and RESOLVED_AFTER == 300
    assert resolved["endsAt"] == "2025-11-25T19:45:40Z"


@pytest.mark.parametrize(
    "address",
    [
        "ops@example.org",
        "root",
        "a.b+c@mail.example.org",
        "Ops <ops@example.org>",
        "Ops of the Shop <ops@example.org>",
        '"Ops, Shop" <ops@example.org>',
        '"J. Doe (on call)" <doe@example.org>',
        "Bereitschaft Süd <süd@example.org>",
    ],
)
def test_each_address_that_the_configuration_takes_is_one_in_the_mail(address: str) -> None:
    """Given an address of each form that is valid, the mail can be made, and goes to and comes from it alone."""
    settings = msgspec.convert({"to": [address, "b@example.org"], "sender": address}, Email)
    mail = mail_of(message(), settings)

    bare = address.rpartition("<")[2].rstrip(">")
    assert [str(one.addr_spec) for one in mail["To"].addresses] == [bare, "b@example.org"]
    assert [str(one.addr_spec) for one in mail["From"].addresses] == [bare]
    assert mail.as_bytes()


def test_no_alert_is_over_before_it_begins() -> None:
    """Given a clock of the store that was put back behind the beginning of an incident, Alertmanager, which refuses an
    alert that ends before it begins, is given one that lasts."""
    alert = alert_of(message().notices[0], message(at=AT - 180 - 400))

    assert (alert["startsAt"], alert["endsAt"]) == ("2025-11-25T19:43:40Z", "2025-11-25T19:48:40Z")


def test_a_mail_that_is_sent_again_is_the_same_mail_and_belongs_to_its_thread() -> None:
    """Given a message that is made again, its Message-ID is the same; that of the end refers to the same incident."""
    settings = Email(to=["ops@example.org"], sender="monitor@example.org")
    first, again, end = (mail_of(one, settings) for one in (message(), message(at=AT + 60), message(ended())))

    assert first["Message-ID"] == again["Message-ID"] != end["Message-ID"]
    assert first["References"] == end["References"]
    assert first["Subject"].startswith("[ha-monitor] page: worker celery@app3 is lost")


def test_no_text_gets_into_the_headers_of_a_mail() -> None:
    """Given a summary with line ends and headers of its own, the mail has the headers that every one has."""
    bad = incident(summary="x\r\nBcc: all@example.org\r\n\r\nhello")
    mail = mail_of(message(Notice("a.mail.1", Phase.FIRING, bad)), Email(to=["a@b.org"], sender="c@d.org"))

    assert "Bcc" not in mail and len(mail.as_bytes().split(b"\r\n\r\n")[0].split(b"Bcc")) == 2
    assert Secrets() == Secrets("", "", "")


@pytest.mark.parametrize("name", blocks())
def test_the_documented_messages_are_those_that_are_sent(name: str) -> None:
    """Given the incident of the documentation, what stands there is what each channel sends."""
    assert blocks()[name] in (DOCS / "being-told.md").read_text(encoding="utf-8")
