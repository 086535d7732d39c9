"""Messages about incidents on their way to the channels, as the leader keeps them in the store. Times are in seconds
since the epoch, by the store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ha_monitor.store.incidents import Incident, Phase, Told

Kept = TypeVar("Kept")
HOUR = 3600.0
"""Seconds for which it is known when a channel took a message."""


class Part(Struct, frozen=True, array_like=True):
    """What a message says of one incident."""

    incident: str
    phase: Phase
    number: int
    """Which message about this incident it is for its channel; the first is 1."""
    at: float = 0.0
    """Of a resolved one: when it ended."""
    size: int = 0
    """Of one that fires: its size, as the next."""
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
    """A message that its channel has taken."""

    claim: Claim
    at: float


class Changes(NamedTuple):
    """What the leader has to tell the store. All of it may be told again."""

    claimed: Sequence[Claim] = ()
    taken: Sequence[Taken] = ()
    """Nothing happens to those whose claim is not there any more."""
    released: Sequence[str] = ()
    """Ids of claims whose message nobody took: it is planned anew."""
    noted: Sequence[tuple[str, str, float]] = ()
    """(incident, channel, when): that the channel is to hear of the incident, once others like it had time to join."""
    forgotten: Sequence[tuple[str, str]] = ()
    """(incident, channel) of which nothing needs to be known any more."""


class Book(NamedTuple):
    """What is known of all deliveries."""

    now: float
    told: Mapping[tuple[str, str], Told]
    """By incident and channel. `times` is 0 for what is only noted."""
    claims: Sequence[Claim]
    taken: Mapping[str, Sequence[float]]
    """When a channel took a message, in the last hour."""


class Deliveries(Protocol):
    """What the leader does with them. Raises as `store/api.py` says."""

    def exchange(self, changes: Changes = Changes()) -> Book | None:  # noqa: B008 - it is immutable
        """Tell the store, and read what it knows then. Blocks; None, and nothing is done, if this instance does not
        lead.
        """


def told_by_channel(told: Mapping[tuple[str, str], Told], incident: str) -> dict[str, Told]:
    """What each channel was told of an incident, for people."""
    return {channel: one for (known, channel), one in told.items() if known == incident and one.times}


def with_told(incidents: Sequence[Incident], told: Mapping[tuple[str, str], Told]) -> list[Incident]:
    """Incidents that say what each channel was told of them."""
    return [replace(one, told=told_by_channel(told, one.id)) for one in incidents] if told else list(incidents)


def told_by(claim: Claim, at: float) -> dict[tuple[str, str], Told]:
    """What a channel was told once it has taken a message."""
    return {
        (one.incident, claim.channel): Told(at, one.phase, one.number, one.size, one.members) for one in claim.parts
    }


def delivery_id(part: Part, channel: str) -> str:
    """The id under which a channel is told something of an incident, however often it is tried."""
    return f"{part.incident}.{channel}.{part.number}"


def book_of(
    now: float, claims: Mapping[bytes, bytes], told: Mapping[bytes, bytes], taken: Mapping[bytes, bytes]
) -> Book:
    """What is known, read from what is kept. What is broken is left out.

    :param claims: by id.
    :param told: by `field_of`.
    :param taken: times in ms by id.
    """
    times: dict[str, list[float]] = {}
    for name, at in taken.items():
        channel = name.decode("utf-8", "replace").rpartition(".")[0].rpartition(".")[2]
        times.setdefault(channel, []).append(float(at) / 1000)
    return Book(now, read_told(told), [one for raw in claims.values() if (one := read_claim(raw))], times)


def read_told(told: Mapping[bytes, bytes]) -> dict[tuple[str, str], Told]:
    """What each channel was told of each incident, or is noted for it.

    :param told: what is kept of that, by `field_of`.
    """
    known: dict[tuple[str, str], Told] = {}
    for field, raw in told.items():
        incident, mark, channel = field.decode("utf-8", "replace").rpartition(_MARK)
        if mark and (entry := read_entry(raw)) is not None:
            known[incident, channel] = entry
    return known


def field_of(incident: str, channel: str) -> str:
    """The name of what a channel was told of an incident, where it is kept."""
    return f"{incident}{_MARK}{channel}"


def entry_of(told: Told) -> bytes:
    """What is kept of that."""
    return _pack(told)


def read_entry(raw: bytes) -> Told | None:
    """The opposite; None if it is none."""
    return _read(_TOLD, raw)


def read_claim(raw: bytes) -> Claim | None:
    """A claim as `pack_claim` made it; None if it is none."""
    return _read(_CLAIM, raw)


def pack_claim(claim: Claim) -> bytes:
    """What is kept of it."""
    return _pack(claim)


_MARK = "\x1f"
_pack = msgspec.json.Encoder().encode
_CLAIM = msgspec.json.Decoder(Claim)
_TOLD = msgspec.json.Decoder(Told)


def _read(decoder: msgspec.json.Decoder[Kept], raw: bytes) -> Kept | None:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
