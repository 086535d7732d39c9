"""The lifecycle of an incident: pending, firing, resolved.

An incident that is seen for the first time is pending, at least until the next look. So its id is stored before anybody
is notified, and a repeated call notifies nobody twice. While a kind cannot be judged, no incident of it begins or ends,
and that time counts towards no duration. The same holds for one that is not seen while not everything of its kind was
looked at. Times come from the store's clock, which may be set back: stored times are clamped, so that none lies in the
future.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from msgspec.structs import replace

from ha_monitor.events.model import Event
from ha_monitor.incidents.catalogue import FLAP_WINDOW, KINDS, RESOLVED_TTL, UNNOTIFIED_TTL, Kind, Same
from ha_monitor.incidents.lost_workers import merge_lost_workers
from ha_monitor.incidents.rules import RuleResults
from ha_monitor.incidents.sighting import Sighting
from ha_monitor.store.incidents import BEFORE, MAX_INCIDENTS, Incident, IncidentChanges, Phase, Severity

NO_INCIDENTS: Mapping[tuple[str, str], Incident] = {}
OPENED, RESOLVED = "incident-opened", "incident-resolved"


def advance(
    kept: Sequence[Incident],
    seen: RuleResults,
    now: float,
    remembered: Mapping[tuple[str, str], Incident] = NO_INCIDENTS,
    believed: Collection[str] | None = (),
) -> IncidentChanges:
    """What becomes of the incidents.

    :param kept: all incidents, as they were last written.
    :param now: seconds since the epoch, by the store's clock.
    :param remembered: by kind and key, the incidents that were open a moment ago. One that is missing from `kept` was
        lost by the store; if it is seen again, it is the same incident.
    :param believed: ids of the incidents that a channel believes to fire. A resolved one is kept until the channel was
        notified of its end, even beside another incident of the same kind and key. None if the ids are not known.
    """
    before = {one.id: one for one in kept}
    clamped = _clamped(kept, now)
    known = {(one.kind, one.key): one for one in sorted(clamped, key=lambda one: (one.is_open, one.changed))}
    found: dict[tuple[str, str], Sighting] = {}
    for sighting in merge_lost_workers([one for one in seen.sightings if not one.is_ending], clamped, now):
        found.setdefault((sighting.kind, sighting.key), sighting)
    ending = {(one.kind, one.key): one for one in seen.sightings if one.is_ending}
    after: list[Incident] = []
    for place, one in known.items():
        is_judged = one.kind in seen.judged and (place in found or one.kind not in seen.partial)
        after_look = _continued(one, found.get(place), now, is_judged=is_judged)
        if after_look is not None and after_look.is_open and place not in found and is_judged:
            after_look = _with_final_figures(after_look, ending.get(place))
        if after_look is not None:
            after.append(after_look)
    places = {(one.kind, one.key) for one in after}
    new = [
        _new_incident(one, now, remembered.get(place))
        for place, one in found.items()
        if one.kind in seen.judged and place not in places
    ]
    ids = {one.id for one in after}
    unnotified = {one.id: one for one in clamped if _awaits_end_notice(one, believed, now)}
    after += [one for one in unnotified.values() if one.id not in ids]
    after = _with_causes(_limited(after, new, unnotified), found)
    ids = {one.id for one in after}
    return IncidentChanges(
        [one for one in after if one != before.get(one.id)],
        [one.id for one in kept if one.id not in ids],
        [event for one in after if (event := _event(one, before.get(one.id), now)) is not None],
    )


def _clamped(kept: Iterable[Incident], now: float) -> list[Incident]:
    return [
        replace(
            one,
            since=min(one.since, now),
            changed=min(one.changed, now),
            born=min(one.born, now),
            quiet_since=None if one.quiet_since is None else min(one.quiet_since, now),
        )
        for one in kept
    ]


def _new_incident(sighting: Sighting, now: float, lost: Incident | None) -> Incident:
    digest = blake2b(f"{sighting.kind}\0{sighting.key}\0{now:.3f}".encode("utf-8", "replace"), digest_size=6)
    since = now if sighting.since is None else min(sighting.since, now)
    severity = KINDS[sighting.kind].severity
    one = Incident(
        digest.hexdigest(), sighting.kind, sighting.key, severity, Phase.PENDING, since, now, sighting.summary, born=now
    )
    if lost is not None:
        # Firing counts one opening, as it did before, so that the line gets the same id as before.
        opened = lost.opened - (lost.phase is Phase.FIRING)
        one = replace(one, id=lost.id, since=min(since, lost.since), opened=opened, facts=lost.facts)
    return _as_seen(one, sighting, now)


def _continued(one: Incident, sighting: Sighting | None, now: float, *, is_judged: bool) -> Incident | None:
    """What became of an incident; None if it is no longer kept."""
    kind = KINDS.get(one.kind)
    if kind is None:
        return None  # a kind of another version
    if not one.is_open:
        return _continued_after_end(one, sighting if is_judged else None, now)
    if not is_judged:
        waiting = {"born": now} if one.phase is Phase.PENDING else {}
        return replace(one, quiet_since=None, **waiting)
    if sighting is None:
        return _continued_unseen(one, kind, now)
    one = _as_seen(replace(one, quiet_since=None), sighting, now)
    if one.phase is Phase.PENDING and now - one.born >= kind.pending:
        return replace(one, phase=Phase.FIRING, changed=now, opened=one.opened + 1)
    return one


def _continued_after_end(one: Incident, sighting: Sighting | None, now: float) -> Incident | None:
    over_for = now - one.changed
    if sighting is None:
        return one if over_for < RESOLVED_TTL else None
    if over_for >= FLAP_WINDOW:
        return None  # too long ago: a new incident
    return _as_seen(replace(one, phase=Phase.FIRING, changed=now, opened=one.opened + 1), sighting, now)


def _awaits_end_notice(one: Incident, believed: Collection[str] | None, now: float) -> bool:
    """Whether it is resolved, and a channel must still be notified of that."""
    return not one.is_open and now - one.changed < UNNOTIFIED_TTL and (believed is None or one.id in believed)


def _continued_unseen(one: Incident, kind: Kind, now: float) -> Incident | None:
    if one.phase is Phase.PENDING:
        return None
    quiet_since = now if one.quiet_since is None else one.quiet_since
    if now - quiet_since < kind.quiet:
        return replace(one, quiet_since=quiet_since)
    return replace(one, phase=Phase.RESOLVED, changed=now, quiet_since=None, cause=None)


def _with_final_figures(one: Incident, sighting: Sighting | None) -> Incident:
    """The incident with the current figures. Its size stays as it was while the problem lasted."""
    return one if sighting is None else replace(one, summary=sighting.summary, facts=_facts_of(one, sighting))


def _facts_of(one: Incident, sighting: Sighting) -> dict[str, str | int | float | None]:
    # The change that preceded it stays the same, even if something else changes later.
    before = {BEFORE: one.facts[BEFORE]} if BEFORE in one.facts else {}
    return {**sighting.facts, **before}


def _as_seen(one: Incident, sighting: Sighting, now: float) -> Incident:
    return replace(
        one,
        since=one.since if sighting.since is None else min(one.since, sighting.since),
        changed=now if sighting.size != one.size else one.changed,
        summary=sighting.summary,
        size=sighting.size,
        facts=_facts_of(one, sighting),
        command=sighting.command,
        members=sighting.members,
        tasks=sighting.tasks,
    )


def _limited(after: Sequence[Incident], new: Sequence[Incident], unnotified: Collection[str]) -> list[Incident]:
    """At most `MAX_INCIDENTS`. Resolved ones are dropped first: those whose end all channels know before others, and
    the oldest first. Then new ones are dropped, starting with those that page nobody.
    """
    lasting = [one for one in after if one.is_open]
    over = sorted((one for one in after if not one.is_open), key=lambda one: (one.id not in unnotified, -one.changed))
    by_severity = sorted(new, key=lambda one: (one.severity is not Severity.PAGE, one.kind, one.key))
    return [*lasting, *by_severity, *over][:MAX_INCIDENTS]


def _with_causes(after: Sequence[Incident], found: Mapping[tuple[str, str], Sighting]) -> list[Incident]:
    """The incidents, each with the one that it follows from."""
    firing = [one for one in after if one.phase is Phase.FIRING]
    return [_with_cause(one, found.get((one.kind, one.key)), firing) for one in after]


def _with_cause(one: Incident, sighting: Sighting | None, firing: Sequence[Incident]) -> Incident:
    if not one.is_open or sighting is None:
        return one if one.is_open and any(two.id == one.cause for two in firing) else replace(one, cause=None)
    for kind, same in KINDS[one.kind].follows:
        for cause in firing:
            if cause.kind != kind:
                continue
            if _is_same(same, one, sighting, cause):
                return replace(one, cause=cause.id)
    return replace(one, cause=None)


def _is_same(same: Same, one: Incident, sighting: Sighting, cause: Incident) -> bool:
    if same is Same.KEY:
        return cause.key == one.key
    return _is_within(sighting.workers if same is Same.WORKERS else sighting.schedules, cause.members)


def _is_within(names: frozenset[str], members: Sequence[str]) -> bool:
    return bool(names) and names <= set(members)


def _event(one: Incident, before: Incident | None, now: float) -> Event | None:
    """What is announced about an incident; the event id is the same however often that is tried."""
    fires, fired = one.phase is Phase.FIRING, before is not None and before.phase is Phase.FIRING
    if fires == fired or one.phase is Phase.PENDING:
        return None
    kind = OPENED if fires else RESOLVED
    event_id = blake2b(f"{kind}\0{one.id}\0{one.opened}".encode(), digest_size=12).hexdigest()
    fields: dict[str, Any] = {
        "incident": one.id,
        "kind": one.kind,
        "key": one.key,
        "severity": one.severity.value,
        "since": one.since,
        "size": one.size,
        "summary": one.summary,
        "command": one.command,
    }
    if one.cause is not None:
        fields["cause"] = one.cause
    return Event(kind, event_id, time=now, fields=fields)
