"""What is wrong, as sentences with links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ha_monitor.answers.problems import count_text
from ha_monitor.incidents.place import OF_ALL, PAGES
from ha_monitor.store.incidents import Incident, Phase, Severity
from ha_monitor.text.visible import visible
from ha_monitor.web.rows import Row, at

LABELS = {"error-new": "New error", "error-regressed": "Error again"}
"""For kinds whose name cannot begin a sentence."""


def sentences(incidents: Sequence[Incident], known: Sequence[Incident], now: float) -> list[dict[str, Any]]:
    """Incidents for the template.

    :param known: all incidents, to name those that others follow from.
    :param now: seconds since the epoch.
    """
    by_id = {one.id: one for one in known}
    return [_sentence(one, by_id, now) for one in incidents]


def _sentence(one: Incident, by_id: Mapping[str, Incident], now: float) -> dict[str, Any]:
    noun = PAGES.get(one.kind, "monitor")
    before, link, after = _linked(one, has_page=noun != "monitor")
    cause = by_id.get(one.cause) if one.cause is not None else None
    firing = one.phase is Phase.FIRING and one.cause is None and not one.silenced_until
    return {
        "id": one.id,
        "kind": LABELS.get(one.kind) or one.kind.replace("-", " ").capitalize(),
        "look": ("page" if one.severity is Severity.PAGE else "attend") if firing else "other",
        "before": before,
        "link": link,
        "key": None if one.kind in OF_ALL else one.key,
        "after": after,
        "noun": noun,
        "phase": str(one.phase),
        "severity": str(one.severity),
        "since": _since(one.since, now),
        "over": at(one.changed, now) if one.phase is Phase.RESOLVED else None,
        "follows": None if one.cause is None else one.cause if cause is None else f"{cause.kind} {cause.key}",
        "quiet": at(one.quiet_since, now) if one.is_open and one.quiet_since is not None else None,
        "silenced": at(one.silenced_until, now) if one.silenced_until else None,
        "told": sorted(one.told),
        "command": one.command,
    }


def _since(since: float, now: float) -> Row | None:
    """When it began; None if it is only known to be so now, for example if no instance has ever written."""
    return at(since, now) if since != now else None


def _linked(one: Incident, *, has_page: bool) -> tuple[str, str, str]:
    """A summary split into the texts before, in and after the link: the link is the key, or what replaces an id."""
    key = visible(one.key)
    head, colon, rest = one.summary.partition(": ")
    if has_page and one.kind in OF_ALL:
        return "", head, colon + rest
    if not has_page or not key:
        return one.summary, "", ""
    before, found, after = one.summary.partition(key)
    if found:
        return before, key, after
    error, name = one.facts.get("error_class"), one.facts.get("name")
    if not isinstance(error, str) or not isinstance(name, str):
        return "", head, colon + rest
    return "", f"{visible(error)} in {visible(name)}", rest.removeprefix(visible(error))


def headline(incidents: Sequence[Incident], now: float) -> dict[str, Any]:
    """How much is wrong, in words, and since when."""
    firing = [one for one in incidents if one.phase is Phase.FIRING]
    since = min((one.since for one in firing), default=None)
    return {
        "text": count_text(incidents),
        "since": None if since is None else _since(since, now),
        "urgent": any(one.severity is Severity.PAGE for one in firing),
    }
