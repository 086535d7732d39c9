"""What a message says: as text of at most five lines, and as data. Nothing in an incident is trusted: all of it is
escaped and truncated here, for all channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ha_monitor.incidents.place import place_of
from ha_monitor.store.incidents import BEFORE, Incident, Phase
from ha_monitor.text.times import duration
from ha_monitor.text.visible import visible

MAX_LINES = 5
MAX_LINE, MAX_TITLE = 300, 150
"""Characters."""
MAX_VALUE, MAX_FACTS, MAX_NAME = 1000, 30, 100
"""Limits for what is sent as data."""


class Notice(NamedTuple):
    """What a message says about one incident."""

    id: str
    """The id of this notice, the same for every attempt to deliver it."""
    phase: Phase
    """FIRING or RESOLVED, as it was when the message was planned."""
    incident: Incident
    """The incident as it is now."""
    ended: float = 0.0
    """When it was resolved, in seconds since the epoch; only if it is resolved."""


class Message(NamedTuple):
    """A message to one channel."""

    id: str
    """The id of its first notice."""
    node_id: str
    notices: tuple[Notice, ...]
    """At least one."""
    at: float
    """The current time by the store's clock, in seconds since the epoch, as the times of incidents are."""
    base_url: str = ""
    """Address of the monitor's pages; empty if there are none."""
    is_digest: bool = False
    """Whether it is the last message for now, because there were so many."""


def title_of(message: Message) -> str:
    """One line: what is wrong or resolved, and in which fleet."""
    notices = message.notices
    if len(notices) == 1:
        what = f"{_severity(notices[0])}: {notices[0].incident.summary}"
    else:
        firing = sum(1 for one in notices if one.phase is Phase.FIRING)
        ended = len(notices) - firing
        counted = [
            *([f"{firing} {'problem' if firing == 1 else 'problems'}"] if firing else []),
            *([f"{ended} resolved"] if ended else []),
        ]
        kinds = sorted({one.incident.kind for one in notices})
        named = ", ".join(kinds[:3]) + (", …" if len(kinds) > 3 else "")
        what = f"{' and '.join(counted)}: {named}"
    tail = f" ({line(message.node_id, MAX_NAME)})"
    return line(what, MAX_TITLE - len(tail)) + tail


def lines_of(message: Message) -> list[str]:
    """At most five lines: what and how much, since when, what changed before it, link, command."""
    notices = message.notices
    ending = [*([link_of(message)] if message.base_url else [])]
    if len(notices) == 1:
        incident = notices[0].incident
        before = incident.facts.get(BEFORE)
        rest = [_time_of(notices[0], message.at), *([f"before it: {before}"] if before else []), *ending]
        if incident.command and notices[0].phase is Phase.FIRING:
            rest.append(f"$ {incident.command}")
    else:
        room = MAX_LINES - 1 - len(ending) - 1
        shown = [f"{_severity(one)}: {one.incident.summary}, {_time_of(one, message.at)}" for one in notices[:room]]
        more = len(notices) - len(shown)
        rest = [*shown, *ending, f"and {more} more: $ ha-monitor problems" if more else "$ ha-monitor problems"]
    if message.is_digest:
        note = "many messages this hour: this is a digest, and the next one comes later"
        rest[-1:] = [f"{rest[-1]} ({note})"]
    return [title_of(message), *(line(one) for one in rest)][:MAX_LINES]


def document_of(message: Message) -> dict[str, Any]:
    """The message as data, for programs."""
    return {
        "version": 1,
        "id": message.id,
        "time": iso(message.at),
        "node_id": line(message.node_id, MAX_NAME),
        "title": title_of(message),
        "text": "\n".join(lines_of(message)),
        "link": link_of(message) or None,
        "digest": message.is_digest,
        "incidents": [_document(one) for one in message.notices],
    }


def link_of(message: Message) -> str:
    """The page of the incident if there is only one, otherwise the overview; empty if there are no pages."""
    if not message.base_url:
        return ""
    place = place_of(message.notices[0].incident) if len(message.notices) == 1 else ""
    return f"{message.base_url}/{place}"


def line(text: str, max_length: int = MAX_LINE) -> str:
    """Untrusted text as one visible line of limited length."""
    # Truncate before escaping, because the text may be megabytes long.
    shown = visible(" ".join(text[: 2 * max_length].split()))
    return shown if len(shown) <= max_length and len(text) <= 2 * max_length else shown[: max_length - 1] + "…"


def iso(at: float) -> str:
    """A time as ISO 8601, in UTC, clamped to the times that can be represented."""
    return datetime.fromtimestamp(min(max(at, 0.0), 253402300799.0), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def facts_of(incident: Incident) -> dict[str, str | int | float | None]:
    """The facts, limited in number and length."""
    return {
        line(str(name), MAX_NAME): line(value, MAX_VALUE) if isinstance(value, str) else value
        for name, value in list(incident.facts.items())[:MAX_FACTS]
    }


def _document(notice: Notice) -> dict[str, Any]:
    incident = notice.incident
    known: Mapping[str, Any] = {
        "id": incident.id,
        "delivery": notice.id,
        "kind": line(incident.kind, MAX_NAME),
        "key": line(incident.key, MAX_VALUE),
        "severity": incident.severity.value,
        "phase": notice.phase.value,
        "since": iso(incident.since),
        "ended": iso(notice.ended) if notice.phase is Phase.RESOLVED else None,
        "summary": line(incident.summary, MAX_VALUE),
        "size": incident.size,
        "facts": facts_of(incident),
        "command": line(incident.command),
    }
    return dict(known)


def _severity(notice: Notice) -> str:
    return notice.incident.severity.value if notice.phase is Phase.FIRING else "resolved"


def _time_of(notice: Notice, now: float) -> str:
    since = notice.incident.since
    if notice.phase is Phase.FIRING:
        return f"since {_clock(since)} ({duration(max(0.0, now - since))})"
    return f"resolved at {_clock(notice.ended)}, lasted {duration(max(0.0, notice.ended - since))}"


def _clock(at: float) -> str:
    """In UTC and with the date, because nobody knows where and when it is read."""
    return iso(at).replace("T", " ").replace("Z", " UTC")
