"""PagerDuty, Events API v2. The incident's id is the `dedup_key`, so an event that arrives twice counts once."""

from __future__ import annotations

from typing import Any

import msgspec

from ha_monitor.config.notify import PagerDuty, Secrets
from ha_monitor.notify.channel import Deadline
from ha_monitor.notify.http import connected, place_of, request
from ha_monitor.notify.message import (
    MAX_NAME,
    MAX_VALUE,
    Message,
    Notice,
    facts_of,
    iso,
    line,
    lines_of,
    link_of,
    title_of,
)
from ha_monitor.store.incidents import Phase, Severity


class PagerDutyChannel:
    """See `channel.Channel`. Sends one event per incident; its pace puts one incident into each message."""

    def __init__(self, settings: PagerDuty, secrets: Secrets) -> None:
        self._url = settings.url
        self._key = secrets.key

    def deliver(self, message: Message, deadline: Deadline) -> str:
        for notice in message.notices:
            body = msgspec.json.encode(event_of(notice, message, self._key))
            request("POST", self._url, deadline, body=body)
        return ""

    def probe(self, deadline: Deadline) -> str:
        """The key is not tried, because that would open an incident."""
        with connected(self._url, deadline):
            return f"{place_of(self._url)} can be reached; ha-monitor notify test tries the key"


def event_of(notice: Notice, message: Message, key: str) -> dict[str, Any]:
    """The event that PagerDuty is sent for an incident."""
    incident = notice.incident
    known: dict[str, Any] = {"routing_key": key, "dedup_key": line(incident.id, MAX_NAME)}
    if notice.phase is Phase.RESOLVED:
        return {**known, "event_action": "resolve"}
    alone = message._replace(notices=(notice,))
    event = {
        **known,
        "event_action": "trigger",
        "client": "ha-monitor",
        "payload": {
            "summary": title_of(alone),
            "source": line(message.node_id, MAX_NAME),
            "severity": "critical" if incident.severity is Severity.PAGE else "warning",
            "timestamp": iso(incident.since),
            "component": line(incident.key, MAX_VALUE),
            "class": line(incident.kind, MAX_NAME),
            "custom_details": {"text": "\n".join(lines_of(alone)[1:]), **facts_of(incident)},
        },
    }
    if message.base_url:
        event["links"] = [{"href": link_of(alone), "text": "ha-monitor"}]
    return event
