"""Messages about incidents on their way to the channels, as the leader stores them. Times are in seconds since the
epoch, by the store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ha_monitor.store.incidents import Incident, Notified, Phase

Kept = TypeVar("Kept")
HOUR = 3600.0
"""Seconds for which it is remembered when a channel took a message."""


class Part(Struct, frozen=True, array_like=True):
    """What a message says about one incident."""

    incident: str
    phase: Phase
    number: int
    """The number of this message among those about this incident to its channel; the first is 1."""
    at: float = 0.0
    """For a resolved incident: when it ended."""
    size: int = 0
    """For a firing incident: its size, and likewise the next."""
    members: int = 0


class Claim(Struct, frozen=True, array_like=True):
    """A message that is being delivered, or was when its leader died."""

    id: str
    channel: str
    parts: tuple[Part, ...]
    at: float
    """When it was claimed."""
    token: int
    """Of the instance that claimed it."""
    is_digest: bool = False


class Taken(NamedTuple):
    """A message that its channel took."""

    claim: Claim
    at: float


class Changes(NamedTuple):
    """What the leader reports to the store. All of it may be reported again."""

    claimed: Sequence[Claim] = ()
    taken: Sequence[Taken] = ()
    """Ignored for messages whose claim no longer exists."""
    released: Sequence[str] = ()
    """Ids of claims whose message no channel took: it is planned anew."""
    noted: Sequence[tuple[str, str, float]] = ()
    """(incident, channel, when): the channel will be told of the incident, once similar ones have had time to join."""
    forgotten: Sequence[tuple[str, str]] = ()
    """(incident, channel) about which nothing needs to be known any longer."""


class DeliveryState(NamedTuple):
    """What is known about all deliveries."""

    now: float
    notified: Mapping[tuple[str, str], Notified]
    """By incident and channel. `times` is 0 for an entry that is only noted."""
    claims: Sequence[Claim]
    taken: Mapping[str, Sequence[float]]
    """When each channel took messages, in the last hour."""


class Deliveries(Protocol):
    """What the leader does with messages. Raises as `store/api.py` says."""

    def exchange(self, changes: Changes = Changes()) -> DeliveryState | None:  # noqa: B008 - it is immutable
        """Report to the store, and read what it knows then. Blocks; None, without any effect, if this instance does not
        lead.
        """


def notified_by_channel(notified: Mapping[tuple[str, str], Notified], incident: str) -> dict[str, Notified]:
    """What each channel was told about an incident, for people."""
    return {channel: one for (known, channel), one in notified.items() if known == incident and one.times}


def with_notified(incidents: Sequence[Incident], notified: Mapping[tuple[str, str], Notified]) -> list[Incident]:
    """The incidents, with what each channel was told about them."""
    return (
        [replace(one, told=notified_by_channel(notified, one.id)) for one in incidents] if notified else list(incidents)
    )


def notified_by(claim: Claim, at: float) -> dict[tuple[str, str], Notified]:
    """What a channel has been told once it took a message."""
    return {
        (one.incident, claim.channel): Notified(at, one.phase, one.number, one.size, one.members) for one in claim.parts
    }


def delivery_id(part: Part, channel: str) -> str:
    """The id under which a channel is told about an incident, the same for each attempt."""
    return f"{part.incident}.{channel}.{part.number}"


def delivery_state(
    now: float, claims: Mapping[bytes, bytes], notified: Mapping[bytes, bytes], taken: Mapping[bytes, bytes]
) -> DeliveryState:
    """What is known, read from the stored values. Broken ones are left out.

    :param claims: by id.
    :param notified: by `field_of`.
    :param taken: times in ms by id.
    """
    times: dict[str, list[float]] = {}
    for name, at in taken.items():
        channel = name.decode("utf-8", "replace").rpartition(".")[0].rpartition(".")[2]
        times.setdefault(channel, []).append(float(at) / 1000)
    return DeliveryState(
        now, read_notified(notified), [one for raw in claims.values() if (one := read_claim(raw))], times
    )


def read_notified(notified: Mapping[bytes, bytes]) -> dict[tuple[str, str], Notified]:
    """What each channel was told about each incident, or is noted for it.

    :param notified: the stored values, by `field_of`.
    """
    known: dict[tuple[str, str], Notified] = {}
    for field, raw in notified.items():
        incident, mark, channel = field.decode("utf-8", "replace").rpartition(_MARK)
        if mark and (entry := read_entry(raw)) is not None:
            known[incident, channel] = entry
    return known


def field_of(incident: str, channel: str) -> str:
    """The field that stores what a channel was told about an incident."""
    return f"{incident}{_MARK}{channel}"


def entry_of(notified: Notified) -> bytes:
    """The stored value."""
    return _pack(notified)


def read_entry(raw: bytes) -> Notified | None:
    """The inverse of `entry_of`; None if the value is invalid."""
    return _read(_NOTIFIED, raw)


def read_claim(raw: bytes) -> Claim | None:
    """The inverse of `pack_claim`; None if the value is invalid."""
    return _read(_CLAIM, raw)


def pack_claim(claim: Claim) -> bytes:
    """The stored value of a claim."""
    return _pack(claim)


_MARK = "\x1f"
_pack = msgspec.json.Encoder().encode
_CLAIM = msgspec.json.Decoder(Claim)
_NOTIFIED = msgspec.json.Decoder(Notified)


def _read(decoder: msgspec.json.Decoder[Kept], raw: bytes) -> Kept | None:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
