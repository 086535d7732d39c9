"""Which channels are notified of an incident."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ha_monitor.config.notify import Heartbeat, Notify, Route
from ha_monitor.errors import ConfigurationError
from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.store.incidents import Incident
from ha_monitor.text.patterns import fits
from ha_monitor.text.suggestions import did_you_mean
from ha_monitor.text.visible import shortened, visible


def channels_for(incident: Incident, routes: Sequence[Route], channels: Collection[str]) -> list[str]:
    """The channels of every matching route; without any routes, all channels."""
    if not routes:
        return list(channels)
    named = {channel for route in routes if _fits(route, incident) for channel in route.channels}
    return [channel for channel in channels if channel in named]


def require_kinds(routes: Sequence[Route]) -> None:
    """Make sure that each pattern for kinds could fit an incident: what is mistyped would be told to nobody.

    :raises ConfigurationError: if one fits no kind, or none of the severity that its route is for.
    """
    for number, route in enumerate(routes):
        kinds = [kind.name for kind in CATALOGUE if route.severity in ("", kind.severity)]
        of = f" of severity {route.severity}" if route.severity else ""
        for pattern in route.kinds:
            if not _any_fits([pattern], kinds):
                known = did_you_mean(pattern, kinds) or f"; known are {', '.join(kinds)}"
                text = f"no kind of incident{of} fits {shortened(visible(pattern), 100)}{known}"
                raise ConfigurationError(f"notify.routes[{number}].kinds: {text}", "notify.routes")


def unrouted_channels(settings: Notify) -> list[str]:
    """The channels that no route leads to, though there are routes: they are told of nothing. Heartbeats need none."""
    named = {channel for route in settings.routes for channel in route.channels}
    return [
        name
        for name, one in settings.channels.items()
        if settings.routes and name not in named and not isinstance(one, Heartbeat)
    ]


def _fits(route: Route, incident: Incident) -> bool:
    if route.severity and route.severity != incident.severity:
        return False
    names = [incident.key, *incident.members, str(incident.facts.get("name") or "")]
    return _any_fits(route.kinds, [incident.kind]) and _any_fits(route.names, names)


def _any_fits(patterns: Sequence[str], texts: Sequence[str]) -> bool:
    return not patterns or any(fits(text, pattern) for pattern in patterns for text in texts)
