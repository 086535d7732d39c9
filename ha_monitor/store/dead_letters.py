"""Dead letters: calls of handlers that failed for good. Their content, and the port to the stored ones."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from ha_monitor.errors import reason_of


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A dead letter, as JSON in Redis. What a letter of another version lacks has its default."""

    time: str = ""
    """When the last call failed, ISO 8601."""
    handler: str = ""
    error: str = ""
    traceback: str = ""
    attempts: int = 0
    instance: str = ""
    """The name of the instance that made the last call, and its host."""
    host: str = ""
    event: Any = None
    task: Any = None
    """What was then known about the event's task."""
    entry: bytes = b""
    """The outbox entry that makes the call again (`outbox.retry_entry`); empty in a letter of an earlier version."""


class KeptLetter(Struct, frozen=True):
    """A letter that was read from the store."""

    id: str
    """The same each time the handler gives up on this event."""
    letter: DeadLetter
    raw: bytes
    """Its text in Redis."""


class DeadLetters(Protocol):
    """The stored dead letters. Each method raises `StoreUnavailable`."""

    def newest(self) -> Iterator[KeptLetter]:
        """All letters, newest first. If one is added meanwhile, another one may come twice."""

    def retry(self, kept: KeptLetter) -> bool:
        """Have the handler called again, with all its attempts, and delete the letter. False if it was gone."""

    def drop(self, kept: KeptLetter) -> bool:
        """Delete a letter; False if it was gone."""


def letter_id(handler: str, event_id: str) -> str:
    """The id of the letter for a handler and an event."""
    return blake2b(f"{handler}\0{event_id}".encode("utf-8", "replace"), digest_size=6).hexdigest()


def read_letter(raw: bytes) -> KeptLetter:
    """Read a letter from its text in Redis; an invalid one gets an error that says so, and can be dropped."""
    try:
        letter = msgspec.json.decode(raw, type=DeadLetter)
        return KeptLetter(letter_id(letter.handler, letter.event["id"]), letter, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        letter = DeadLetter(error=f"not a valid dead letter: {reason_of(error)}")
        return KeptLetter(blake2b(raw, digest_size=6).hexdigest(), letter, raw)
