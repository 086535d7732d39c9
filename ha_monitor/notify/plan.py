"""Which messages are due. Pure: the leader's knowledge and the time go in, and what to do comes out, so that every
leader reaches the same result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ha_monitor.config.notify import Route
from ha_monitor.notify.routes import channels_for
from ha_monitor.store.deliveries import HOUR, Claim, DeliveryState, Part, delivery_id
from ha_monitor.store.incidents import Incident, Notified, Phase, Severity

GROUP_WAIT, GROUP_INTERVAL, REPEAT_INTERVAL = 30.0, 300.0, 4 * HOUR
"""Seconds: how long the first incident of a kind waits for others; between two messages about the same kind; after
which a message about an incident that still fires is repeated."""
GROWTH_FACTOR = 2
"""Factor by which an incident must have grown since the last message for another message before the repeat: a queue
that keeps growing does not cause one each time."""
MAX_PER_HOUR = 20
"""Messages per channel and hour. The last of them is a digest of everything due, and so is any message after which too
few would be left for the rest."""
MAX_PARTS = 50
"""Incidents in one message; the others are in the next one. A channel that is notified of each separately has fewer."""
MAX_AHEAD = 5.0
"""Seconds by which a time may lie in the future. One further ahead was written before the clock was set back."""


class Pace(NamedTuple):
    """How often a channel is notified."""

    group_wait: float = GROUP_WAIT
    group_interval: float = GROUP_INTERVAL
    repeat_interval: float = REPEAT_INTERVAL
    max_per_hour: int | None = MAX_PER_HOUR
    """None for a service that groups messages itself."""
    max_parts: int = MAX_PARTS
    resolved_resent_for: float = 0.0
    """Seconds for which a resolved incident is repeated every `repeat_interval` seconds, to a service that may forget
    it. Such a service considers resolved what is not repeated."""


NoticeKey = tuple[str, str, Phase]
"""Channel, id of the incident, and the phase that the message was about."""


class Retry(NamedTuple):
    """How something that was refused is tried again."""

    wait: float
    """Seconds for which it is not tried."""
    among: int
    """Incidents in the message that was refused. One alone is refused for what is in it, as far as is known."""


_NO_REFUSALS: Mapping[NoticeKey, Retry] = MappingProxyType({})


class Plan(NamedTuple):
    """What to do now."""

    messages: list[Claim]
    """At most one per channel: the next is planned once this one has been taken."""
    noted: list[tuple[str, str, float]]
    """As in `Changes`."""
    forgotten: list[tuple[str, str]]
    refused: set[NoticeKey]
    """What was refused and is still due."""


class _Due(NamedTuple):
    """One notice that a channel is to get."""

    group: tuple[Severity, str]
    """Severity and kind."""
    waits_since: float
    part: Part
    at: float
    """When it is due."""
    has_failed: bool = False
    """Whether others are tried first, since the channel failed on it."""


def plan(
    incidents: Sequence[Incident],
    routes: Sequence[Route],
    paces: Mapping[str, Pace],
    deliveries: DeliveryState,
    token: int,
    *,
    held: frozenset[str] = frozenset(),
    refused: Mapping[NoticeKey, Retry] = _NO_REFUSALS,
    failed: Collection[NoticeKey] = (),
) -> Plan:
    """What is due at `deliveries.now`.

    :param paces: of all channels, by name.
    :param token: fencing token of this instance.
    :param held: ids of incidents that may already be over: no channel gets a first message about them.
    :param refused: what channels refused, in this order. It is tried again after everything that was not refused, in a
        message of its own, with at most half as many incidents.
    :param failed: on what channels failed, each since it last took a message. It is tried after everything else.
    """
    busy = {claim.channel for claim in deliveries.claims}
    made = Plan([], [], _forgotten(incidents, paces, deliveries), set())
    by_channel: dict[str, list[Incident]] = {name: [] for name in paces}
    for one in incidents:
        for name in _channels_of(one, routes, paces, deliveries):
            by_channel[name].append(one)
    firing = [one for one in incidents if one.phase is Phase.FIRING]
    lost = {what for what, retry in refused.items() if retry.among == 1}
    for name, pace in paces.items():
        goes_there = {one.id for one in by_channel[name] if (name, one.id, one.phase) not in lost}
        notified = _notified_of(name, firing, goes_there, deliveries)
        due = [
            found._replace(has_failed=_key_of(name, found) in failed)
            for one in by_channel[name]
            if (
                found := _due(
                    *(one, name, pace, deliveries, made.noted), follows=one.cause in notified, held=one.id in held
                )
            )
        ]
        made.refused.update(what for one in due if (what := _key_of(name, one)) in refused)
        if name in busy:
            continue
        fresh = [one for one in due if _key_of(name, one) not in refused]
        again = [one for one in due if (retry := refused.get(_key_of(name, one))) is not None and retry.wait <= 0]
        groups = _in_groups(name, pace, fresh, incidents, deliveries)
        is_again = not groups
        if is_again:
            groups = _half(name, _in_groups(name, pace, again, incidents, deliveries), refused)
        if (message := _message(name, pace, groups, deliveries, token, is_again=is_again)) is not None:
            made.messages.append(message)
    return made


def believed_to_fire(channels: Collection[str], deliveries: DeliveryState) -> frozenset[str]:
    """Ids of the incidents that a channel was or is being notified of, and not yet of their end."""
    notified = {
        name
        for (name, channel), notified in deliveries.notified.items()
        if channel in channels and notified.phase is Phase.FIRING
    }
    return frozenset(notified.union(part.incident for claim in deliveries.claims for part in claim.parts))


def _channels_of(
    incident: Incident, routes: Sequence[Route], paces: Mapping[str, Pace], deliveries: DeliveryState
) -> list[str]:
    """The channels that an incident is for; if it is resolved, those that were notified of it."""
    if incident.phase is Phase.RESOLVED:
        return [name for name in paces if (incident.id, name) in deliveries.notified]
    return channels_for(incident, routes, paces) if incident.phase is Phase.FIRING else []


def _notified_of(channel: str, firing: Iterable[Incident], goes_there: set[str], deliveries: DeliveryState) -> set[str]:
    """Ids of the firing incidents that a channel was notified of, or will be. It need not hear what follows from them.

    :param goes_there: ids of the incidents that are routed to the channel, and that it does not refuse.
    """
    return {
        one.id
        for one in firing
        if (one.id in goes_there and not _is_silenced(one, deliveries.now))
        or (
            (last_notice := deliveries.notified.get((one.id, channel))) is not None
            and last_notice.phase is Phase.FIRING
        )
    }


def _is_silenced(incident: Incident, now: float) -> bool:
    return incident.silenced_until is not None and now < incident.silenced_until


def _due(
    incident: Incident,
    channel: str,
    pace: Pace,
    deliveries: DeliveryState,
    noted: list[tuple[str, str, float]],
    *,
    follows: bool,
    held: bool,
) -> _Due | None:
    """What a channel is to be told about an incident, and when; None for nothing.

    :param follows: the channel hears of the cause. It still gets repeats if it considers resolved what is not repeated.
    :param held: notify only channels that know that the incident fires. Those still get repeats.
    """
    last_notice = deliveries.notified.get((incident.id, channel))
    number = last_notice.times + 1 if last_notice else 1
    group = (incident.severity, incident.kind)
    if incident.phase is Phase.RESOLVED:
        return _due_end(incident, pace, last_notice, deliveries.now)
    knows = last_notice is not None and last_notice.times > 0 and last_notice.phase is Phase.FIRING
    if (
        _is_silenced(incident, deliveries.now)
        or (held and not knows)
        or (follows and not (knows and pace.resolved_resent_for > 0))
    ):
        return None
    part = Part(incident.id, Phase.FIRING, number, size=incident.size, members=len(incident.members))
    if last_notice is None:
        noted.append((incident.id, channel, deliveries.now))
        return _Due(group, deliveries.now, part, deliveries.now + pace.group_wait)
    at = _not_ahead(last_notice.at, deliveries.now)
    if not last_notice.times:
        return _Due(group, at, part, at + pace.group_wait)
    if last_notice.phase is Phase.RESOLVED:
        return _Due(group, incident.changed, part, deliveries.now)
    due = at + (pace.group_interval if _has_grown(incident, last_notice) else pace.repeat_interval)
    return _Due(group, due, part, due)


def _has_grown(incident: Incident, last_notice: Notified) -> bool:
    """Whether it has become so much worse since the last message that the channel must know. One more lost worker
    always matters, however many there are.
    """
    return last_notice.size > 0 and (
        incident.size >= GROWTH_FACTOR * last_notice.size or len(incident.members) > last_notice.members
    )


def _due_end(incident: Incident, pace: Pace, last_notice: Notified | None, now: float) -> _Due | None:
    """The notice that an incident is resolved, for a channel that was notified that it fires."""
    if last_notice is None or not last_notice.times:
        return None
    at = now
    if last_notice.phase is Phase.RESOLVED:
        if now - _not_ahead(incident.changed, now) >= pace.resolved_resent_for:
            return None
        at = _not_ahead(last_notice.at, now) + pace.repeat_interval
    part = Part(incident.id, Phase.RESOLVED, last_notice.times + 1, incident.changed)
    return _Due((incident.severity, incident.kind), incident.changed, part, at)


def _not_ahead(at: float, now: float) -> float:
    """A time that was stored; minus infinity if it was written before the clock was set back."""
    return at if at <= now + MAX_AHEAD else float("-inf")


def _in_groups(
    channel: str, pace: Pace, due: Iterable[_Due], incidents: Sequence[Incident], deliveries: DeliveryState
) -> list[list[_Due]]:
    """What is due now, by group: the most severe first, then the one that has waited longest; what failed comes last.
    If anything in a group is due, its notices that only wait for others to join are included.
    """
    latest: dict[tuple[Severity, str], float] = {}
    for one in incidents:
        last_notice = deliveries.notified.get((one.id, channel))
        if last_notice is not None and last_notice.times:
            group = (one.severity, one.kind)
            latest[group] = max(latest.get(group, float("-inf")), _not_ahead(last_notice.at, deliveries.now))
    groups: dict[tuple[Severity, str], list[_Due]] = {}
    for found in due:
        groups.setdefault(found.group, []).append(found)
    ready = []
    for group, members in groups.items():
        if latest.get(group, float("-inf")) + pace.group_interval > deliveries.now:
            continue
        if any(one.at <= deliveries.now for one in members):
            # A repeat that is not due yet is not included.
            joined = [one for one in members if one.at <= deliveries.now or one.part.number == 1]
            ready.append(sorted(joined, key=lambda one: (one.waits_since, one.part.incident)))
    return sorted(ready, key=_turn)


def _turn(group: Sequence[_Due]) -> tuple[bool, bool, float]:
    return all(one.has_failed for one in group), group[0].group[0] is not Severity.PAGE, group[0].waits_since


def _half(channel: str, groups: Iterable[Iterable[_Due]], refused: Mapping[NoticeKey, Retry]) -> list[list[_Due]]:
    """The one group of what was refused that is tried again now: half of what was refused in the largest message, since
    that is the least likely to be refused for what is in it; the longest ago first.
    """
    ready = {_key_of(channel, one): one for group in groups for one in group}
    largest = max((refused[what].among for what in ready), default=0)
    chosen = [ready[what] for what, retry in refused.items() if what in ready and retry.among == largest]
    return [chosen[: max(1, largest // 2)]] if chosen else []


def _key_of(channel: str, due: _Due) -> NoticeKey:
    return channel, due.part.incident, due.part.phase


def _message(
    channel: str, pace: Pace, groups: list[list[_Due]], deliveries: DeliveryState, token: int, *, is_again: bool
) -> Claim | None:
    """The next message of these groups.

    :param is_again: whether they were refused before. The last message of an hour is kept for others.
    """
    if not groups:
        return None
    chosen, is_digest = groups[0], False
    if pace.max_per_hour is None:
        chosen = sorted((one for group in groups for one in group), key=lambda one: one.has_failed)
    else:
        taken = sum(
            1 for at in deliveries.taken.get(channel, ()) if deliveries.now - HOUR < _not_ahead(at, deliveries.now)
        )
        left = pace.max_per_hour - taken - (1 if is_again else 0)
        if left <= 0:
            return None
        if not is_again and (left == 1 or len(groups) > left):
            chosen, is_digest = [one for group in groups for one in group], True
    parts = tuple(one.part for one in chosen[: pace.max_parts])
    return Claim(delivery_id(parts[0], channel), channel, parts, deliveries.now, token, is_digest)


def _forgotten(
    incidents: Sequence[Incident], paces: Mapping[str, Pace], deliveries: DeliveryState
) -> list[tuple[str, str]]:
    """Entries whose incident or channel no longer exists, and which are in no message that is being delivered."""
    known = {one.id for one in incidents}
    in_flight = {(part.incident, claim.channel) for claim in deliveries.claims for part in claim.parts}
    return [
        (incident, channel)
        for incident, channel in deliveries.notified
        if (incident not in known or channel not in paces) and (incident, channel) not in in_flight
    ]
