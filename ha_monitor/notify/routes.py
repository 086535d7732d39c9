"""Which channels are notified of an incident."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from ha_monitor.config.notify import Route
from ha_monitor.store.incidents import Incident


def channels_for(incident: Incident, routes: Sequence[Route], channels: Collection[str]) -> list[str]:
    """The channels of every matching route; without any routes, all channels."""
    if not routes:
        return list(channels)
    named = {channel for route in routes if _fits(route, incident) for channel in route.channels}
    return [channel for channel in channels if channel in named]


def _fits(route: Route, incident: Incident) -> bool:
    if route.severity and route.severity != incident.severity:
        return False
    names = [incident.key, str(incident.facts.get("name") or "")]
    return _any_fits(route.kinds, [incident.kind]) and _any_fits(route.names, names)


def _any_fits(patterns: Sequence[str], texts: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns for text in texts)
