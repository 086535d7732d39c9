"""Prometheus' Alertmanager, API v2. The same alert may be posted any number of times, by any number of instances: its
labels are its identity, so two leaders during a fail-over do no harm. An alert that is not posted again expires.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ha_monitor.config.notify import Alertmanager, Secrets
from ha_monitor.notify.channel import Deadline, LoginRefused, NotDelivered, Refused
from ha_monitor.notify.http import Login, request
from ha_monitor.notify.message import MAX_NAME, MAX_VALUE, Message, Notice, iso, line, lines_of, link_of
from ha_monitor.store.incidents import Phase

RESEND = 60.0
"""Seconds after which an incident that still fires is posted again."""
RESOLVED_AFTER = 5 * RESEND
"""Seconds after which Alertmanager considers an alert resolved unless it is posted again: longer than a new leader
needs to start."""

RESOLVED_RESENT_FOR = 900.0
"""Seconds for which a resolved alert is posted again, as Prometheus does: a restarted Alertmanager has forgotten all
alerts, and would otherwise never report that one is resolved."""


class AlertmanagerChannel:
    """See `channel.Channel`. Posts to all members: they share what they have notified, not the alerts they receive."""

    def __init__(self, settings: Alertmanager, secrets: Secrets) -> None:
        self._urls = [url.rstrip("/") for url in settings.urls]
        self._login = Login(settings.username, secrets.password) if settings.username else None

    def deliver(self, message: Message, deadline: Deadline) -> str:
        """Returns if any member has taken it: one that is down must not prevent the others from notifying."""
        body = msgspec.json.encode([alert_of(one, message) for one in message.notices])
        failures: list[NotDelivered] = []
        for number, url in enumerate(self._urls):
            share = deadline.share(len(self._urls) - number)
            try:
                request("POST", f"{url}/api/v2/alerts", share, body=body, login=self._login)
            except NotDelivered as error:
                failures.append(error)
        if len(failures) == len(self._urls):
            raise max(failures, key=_chance)
        return "; ".join(map(str, failures))

    def probe(self, deadline: Deadline) -> str:
        """Raises if any member does not answer."""
        for number, url in enumerate(self._urls):
            share = deadline.share(len(self._urls) - number)
            request("GET", f"{url}/api/v2/status", share, login=self._login)
        count = len(self._urls)
        return f"{count} {'member answers' if count == 1 else 'members answer'}"


def _chance(error: NotDelivered) -> int:
    """A greater number for a member that may take the alerts sooner."""
    return 0 if isinstance(error, LoginRefused) else 1 if isinstance(error, Refused) else 2


def alert_of(notice: Notice, message: Message) -> dict[str, Any]:
    """An incident in Alertmanager's form. Its labels stay the same for as long as it lasts."""
    incident = notice.incident
    firing = notice.phase is Phase.FIRING
    alert: dict[str, Any] = {
        "labels": {
            "alertname": line(incident.kind, MAX_NAME),
            "severity": incident.severity.value,
            "key": line(incident.key, MAX_VALUE),
            "node_id": line(message.node_id, MAX_NAME),
            "incident": line(incident.id, MAX_NAME),
        },
        "annotations": {
            "summary": line(incident.summary, MAX_VALUE),
            "description": "\n".join(lines_of(message._replace(notices=(notice,)))[1:]),
            "command": line(incident.command),
        },
        "startsAt": iso(incident.since),
        "endsAt": iso(
            max(message.at if firing else notice.ended, incident.since) + (RESOLVED_AFTER if firing else 0.0)
        ),
    }
    if message.base_url:
        alert["generatorURL"] = link_of(message._replace(notices=(notice,)))
    return alert
