"""Which channels are told of an incident."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ha_monitor.config.notify import Route
from ha_monitor.store.incidents import Incident
from ha_monitor.text.patterns import fits


def channels_for(incident: Incident, routes: Sequence[Route], channels: Collection[str]) -> list[str]:
    """Those of every route that fits; without any route, all channels are told of everything."""
    if not routes:
        return list(channels)
    named = {channel for route in routes if _fits(route, incident) for channel in route.channels}
    return [channel for channel in channels if channel in named]


def _fits(route: Route, incident: Incident) -> bool:
    if route.severity and route.severity != incident.severity:
        return False
    names = [incident.key, *incident.members, str(incident.facts.get("name") or "")]
    return _any_fits(route.kinds, [incident.kind]) and _any_fits(route.names, names)


def _any_fits(patterns: Sequence[str], texts: Sequence[str]) -> bool:
    return not patterns or any(fits(text, pattern) for pattern in patterns for text in texts)
