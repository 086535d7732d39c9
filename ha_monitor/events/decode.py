"""Decodes messages into a batch for the store.

No message can make it raise: what cannot be handled is listed as rejected, and a bad event in a list does not affect
the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from ha_monitor.errors import class_and_reason
from ha_monitor.events.body import MAX_BODY, SMALL_BODY, check_size, decompressed, lenient_json
from ha_monitor.events.facts import LATEST_TIME, BadEvent, Fact, FactBuilder, usable_time
from ha_monitor.events.message_pack import json_of
from ha_monitor.events.redact import Redactor
from ha_monitor.events.serializers import JSON, MESSAGE_PACK, READ, refusal_of
from ha_monitor.events.task_id import MAX_ID, text_of_id
from ha_monitor.events.text import printable
from ha_monitor.events.types import TASK_CODES, WORKER_TYPES

MAX_EVENTS = 25_000
"""Maximum events in a message. Celery sends up to 24 at once; more than this do not fit into a body."""
SAMPLE = 500
MAX_REJECTED = 20
"""Maximum rejections per batch whose reason and sample are kept; all are counted."""
MAX_SEARCHED = 4_000_000
"""Characters of a message that may be searched closely for secrets; a character counts once for each search. A message
from Celery with 24 failures and their tracebacks has some hundred thousand.
"""
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii", "binary"})


class Message(NamedTuple):
    """One message as the broker delivered it."""

    body: bytes
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    compression: str = ""
    """kombu's `compression` header; empty if the body is not compressed."""
    fault: str = ""
    """Why the message could not be read; then the content type is empty. Empty if it could be read."""
    redelivered: bool = False
    """Whether the broker redelivered it."""

    @property
    def is_plain_json(self) -> bool:
        """Whether the body is JSON in UTF-8 and is not compressed."""
        return self.content_type in JSON and self.content_encoding.lower() in _UTF_8 and not self.compression

    @property
    def max_bytes(self) -> int:
        """An upper bound of the body's size after decompression, in bytes."""
        return MAX_BODY if self.compression else len(self.body)


class Rejected(NamedTuple):
    """A message, or an event inside one, that could not be handled."""

    reason: str
    sample: str


class Batch:
    """The facts of some messages, by what they are about. Starts empty; `Decoder` adds to it."""

    __slots__ = (
        *("byte_count", "event_count", "message_count", "newest"),
        *("others", "rejected", "rejected_count", "tasks", "workers"),
    )

    def __init__(self) -> None:
        self.tasks: dict[str, list[Fact]] = {}
        self.workers: list[Fact] = []
        self.others: list[Fact] = []
        self.rejected: list[Rejected] = []
        """The first `MAX_REJECTED` rejections."""
        self.rejected_count = 0
        self.message_count = 0
        self.event_count = 0
        self.byte_count = 0
        """Bytes of the decompressed bodies. The facts kept from them are smaller, or not much larger."""
        self.newest = 0.0
        """The latest timestamp of an event, in seconds since the epoch; 0 if no event has one."""

    def take_messages_of(self, other: Batch) -> None:
        """Take over the messages of another batch, of which this is the last part to be merged."""
        self.message_count, self.byte_count = other.message_count, other.byte_count
        self.rejected, self.rejected_count = other.rejected, other.rejected_count


class Decoder:
    """Decodes messages into batches."""

    def __init__(self, facts: FactBuilder, samples: Redactor) -> None:
        """:param samples: redacts the samples of rejected messages."""
        self._facts = facts
        self._samples = samples
        self._decode_json = msgspec.json.Decoder().decode

    def decode(self, messages: Iterable[Message], batch: Batch) -> None:
        """Add all facts of the messages, and the rejections. Never raises because of a message."""
        add, effort = self._add, self._facts.effort
        for message in messages:
            batch.message_count += 1
            batch.byte_count += len(message.body)
            effort.left = MAX_SEARCHED
            try:
                body = self._body(message, batch)
                if type(body) is not list:
                    body = [body]
                elif len(body) > MAX_EVENTS:
                    raise BadEvent(f"message with {len(body)} events; the maximum is {MAX_EVENTS}")
            except BadEvent as error:
                if self._keeps_another(batch):
                    batch.rejected.append(Rejected(str(error), self.sample_of(message)))
                continue
            batch.event_count += len(body)
            for event in body:
                try:
                    add(batch, event)
                except BadEvent as error:
                    if self._keeps_another(batch):
                        batch.rejected.append(Rejected(str(error), self._sample(event)))
                except (ValueError, TypeError, OverflowError, ArithmeticError, RecursionError) as error:
                    # An unexpected value, such as a number of more than MessagePack's 64 bits.
                    if self._keeps_another(batch):
                        reason = class_and_reason(error)
                        batch.rejected.append(Rejected(reason, self._sample(event)))

    @staticmethod
    def _keeps_another(batch: Batch) -> bool:
        """Count a rejection. Returns whether to keep its reason and sample."""
        batch.rejected_count += 1
        return batch.rejected_count <= MAX_REJECTED

    def reconciled(self, event: dict[str, Any]) -> Fact:
        """The fact for a task's end whose event never arrived, built from an event made to replace the missing one."""
        self._facts.effort.left = MAX_SEARCHED
        return self._facts.task_fact(event, event["type"], "reconciled")

    def sample_of(self, message: Message) -> str:
        """The beginning of a message, safe to store and to print."""
        # In a body that is not text, such as a pickle, secrets cannot be found.
        if not message.is_plain_json:
            return f"{len(message.body)} bytes" if message.body else ""
        return self._sample(message.body)

    def _sample(self, value: Any) -> str:
        """The beginning of something rejected, safe to store and to print."""
        # Truncated before redaction, since it may be megabytes, but long enough to keep a secret's key with its value.
        if isinstance(value, bytes):
            text = value[: 4 * SAMPLE].decode("utf-8", "replace")
        else:
            try:
                text = printable(repr(value)[: 4 * SAMPLE])
            except RecursionError:
                text = "…"
        return self._samples.text(text, SAMPLE)

    def _body(self, message: Message, batch: Batch) -> Any:
        if message.content_type not in READ:
            raise BadEvent(message.fault or refusal_of(message.content_type))
        if message.content_encoding.lower() not in _UTF_8:
            raise BadEvent(f"content encoding {message.content_encoding[:100]!r} is not UTF-8")
        body = message.body
        if message.compression:
            body = decompressed(body, message.compression)
            batch.byte_count += len(body) - len(message.body)
        if message.content_type in MESSAGE_PACK:
            body = json_of(body)
        if len(body) > SMALL_BODY:
            check_size(body)
        try:
            return self._decode_json(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            # A ValueError means that a byte is not UTF-8.
            return lenient_json(body)

    def _add(self, batch: Batch, event: Any) -> None:
        if type(event) is not dict:
            raise BadEvent(f"an event must be an object, not {type(event).__name__}")
        event_type = event.get("type")
        if type(event_type) is not str or not 0 < len(event_type) <= MAX_ID:
            raise BadEvent("an event must have a type")
        uuid = event.get("uuid")
        if uuid is not None:
            if is_other := type(uuid) is not str or not 0 < len(uuid) <= MAX_ID:
                uuid = text_of_id(uuid)
                if uuid is None:
                    raise BadEvent(f"{event_type[:100]} has no usable uuid")
                event["uuid"] = uuid
            fact = self._facts.task_fact(event, event_type, is_other_id=is_other)
            known = batch.tasks.get(uuid)
            if known is None:
                batch.tasks[uuid] = [fact]
            else:
                known.append(fact)
        elif event_type in WORKER_TYPES:
            worker = event.get("hostname")
            if type(worker) is not str or not 0 < len(worker) <= MAX_ID:
                raise BadEvent(f"{event_type} has no usable hostname")
            batch.workers.append(self._facts.worker_fact(event, event_type))
        elif event_type in TASK_CODES:
            raise BadEvent(f"{event_type} has no uuid")
        elif (other := self._facts.other_fact(event, event_type)) is not None:
            batch.others.append(other)
        timestamp = event.get("timestamp")
        timestamp = timestamp if type(timestamp) is float else usable_time(timestamp) or 0.0
        if batch.newest < timestamp < LATEST_TIME:
            batch.newest = timestamp
