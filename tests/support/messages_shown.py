"""The message of docs/being-told.md as each channel sends it; `python -m tests.support.messages_shown` prints all."""

from __future__ import annotations

import json
import sys
from typing import Any

from ha_monitor.config.notify import Email
from ha_monitor.incidents.facts import LostTasks
from ha_monitor.incidents.rules.workers import outcome_text, tasks_as_facts
from ha_monitor.notify.channels.alertmanager import alert_of
from ha_monitor.notify.channels.email import mail_of
from ha_monitor.notify.channels.pagerduty import event_of
from ha_monitor.notify.channels.webhook import mattermost_of, slack_of
from ha_monitor.notify.message import Message, Notice, document_of, lines_of
from ha_monitor.store.incidents import BEFORE, Incident, Phase, Severity

AT = 1_764_162_140.0
"""When it is sent, seconds since the epoch."""
HAD = LostTasks(tuple("123456789abc"), again=9, asked=3)
INCIDENT = Incident(
    id="4c1f09ab72de",
    kind="worker-lost",
    key="celery@app3",
    severity=Severity.PAGE,
    phase=Phase.FIRING,
    since=AT - 95,
    changed=AT - 31,
    summary=f"celery@app3 is lost{outcome_text(HAD)}",
    facts={**tasks_as_facts(HAD), BEFORE: "deploy v512, 4 min earlier"},
    command="ha-monitor workers celery@app3",
)
MAIL = Email(to=["ops@example.org"], sender="monitor@example.org")
KEY = "the integration key"


def message_to(channel: str, at: float = AT) -> Message:
    """That to a channel of this name."""
    notice = Notice(f"{INCIDENT.id}.{channel}.1", Phase.FIRING, INCIDENT)
    return Message(notice.id, "shop", (notice,), at, "https://monitor.example.org")


def documents() -> dict[str, Any]:
    """What is sent as JSON, by kind of channel, or template."""
    pager, alerts, chat = message_to("pager"), message_to("alerts"), message_to("chat")
    return {
        "alertmanager": alert_of(alerts.notices[0], alerts),
        "pagerduty": event_of(pager.notices[0], pager, KEY),
        "json": document_of(chat),
        "slack": slack_of(chat),
        "mattermost": mattermost_of(chat),
    }


def shown_mail(mail: Any) -> str:
    """A mail as who reads it sees it, with the headers that matter to programs for mail."""
    headers = ("From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "X-Delivery-Id")
    content = mail.get_content().replace("\r\n", "\n").rstrip()
    return "\n".join([*(f"{name}: {mail[name]}" for name in headers), "", content])


def blocks() -> dict[str, str]:
    """By what it is, the block of the documentation."""
    return {
        "lines": _block("", "\n".join(lines_of(message_to("chat")))),
        **{
            name: _block("json", json.dumps(document, indent=2, ensure_ascii=False))
            for name, document in documents().items()
        },
        "email": _block("", shown_mail(mail_of(message_to("mail"), MAIL))),
    }


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


if __name__ == "__main__":
    sys.stdout.write("\n\n".join(f"{name}:\n\n{block}" for name, block in blocks().items()) + "\n")
