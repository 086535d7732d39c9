"""Announces the items of the outbox: the line first, then the handlers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Handlers as HandlerSettings
from ha_monitor.events.types import EmissionPolicy
from ha_monitor.outputs.console import fields_of
from ha_monitor.outputs.handlers import Failure, Handlers
from ha_monitor.outputs.line import EventLine, Identity, build_line, encode_line, iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.outputs.output import Line, Output
from ha_monitor.store.dead_letters import DeadLetter, letter_id
from ha_monitor.store.outbox import Entry, OutboxItem, retry_entry
from ha_monitor.store.record import record_at
from ha_monitor.text.visible import visible_json

MAX_BACKOFF = 3600.0
ABSENT_FOR = 3600.0
"""Seconds after an event for which another instance may have a handler that this one lacks, as during a rollout."""
ABSENT_BACKOFF = 15.0
"""Seconds until another instance may try."""


class Outcome(msgspec.Struct):
    """What remains to be recorded after announcing."""

    retries: list[tuple[int, bytes]] = msgspec.field(default_factory=list)
    """(delay in ms, entry) of handler calls to be retried."""
    dead_letters: list[bytes] = msgspec.field(default_factory=list)
    failures: int = 0
    """How many handlers failed."""

    @property
    def is_open(self) -> bool:
        """Whether something is left to be recorded."""
        return bool(self.retries or self.dead_letters)


class Witness(Protocol):
    """Wants to know what is announced."""

    def note(self, items: Sequence[OutboxItem]) -> None:
        """:param items: whose lines are written, if they have any."""


def _indexed(text: bytes, line: EventLine) -> Line:
    """A line with the fields that it can be found by."""
    return Line(
        text,
        line.level,
        line.event,
        line.task_id or None,
        line.task_name or None,
        line.queue or None,
        line.worker or None,
        line.root_id or None,
        line.error_group or None,
    )


class Announcer:
    """Writes lines and calls handlers."""

    def __init__(
        self,
        *,
        output: Output,
        identity: Identity,
        policy: EmissionPolicy,
        handlers: Handlers,
        settings: HandlerSettings,
        logger: Logger,
        clock: Clock,
        render: Callable[[dict[str, Any]], bytes] | None = None,
        witness: Witness | None = None,
    ) -> None:
        """
        :param render: writes lines for people instead of JSON.
        :param witness: is told of the items whose lines are written.
        """
        self._output = output
        self._identity = identity
        self._policy = policy
        self._handlers = handlers
        self._settings = settings
        self._logger = logger
        self._clock = clock
        self._render = render
        self._witness = witness

    @property
    def has_handlers(self) -> bool:
        """Whether this instance has any."""
        return self._handlers.any

    @property
    def keep_dead_letters(self) -> int:
        """How many dead letters the store keeps."""
        return self._settings.dead_letters

    def write_lines(self, items: Sequence[OutboxItem]) -> int:
        """Write the lines of the items, and return their number; an item may have none."""
        timestamp = iso_time(self._clock.time())
        lines: list[Line] = []
        for item in items:
            if item.entry.kind == 0 and self._policy.writes(item.entry.event.type):
                line = build_line(item, self._identity, timestamp)
                text = encode_line(line) if self._render is None else self._render(fields_of(line))
                lines.append(_indexed(text, line))
        self._output.write(lines)
        if self._witness is not None:
            self._witness.note(items)
        return len(lines)

    def is_for_handlers(self, item: OutboxItem) -> bool:
        """Whether `call_handlers` has something to do."""
        return item.entry.kind == 1 or bool(self._handlers.due(item.entry))

    def call_handlers(self, item: OutboxItem, outcome: Outcome) -> None:
        """Call the handlers for the item; failures are added to the outcome."""
        entry = item.entry
        due = self._handlers.due(entry)
        if entry.kind == 1 and not due:
            self._absent(entry, outcome)
        for handler in due:
            failure = self._handlers.call(handler, entry)
            if failure is not None:
                self._failed(entry, failure, outcome)

    def _absent(self, entry: Entry, outcome: Outcome) -> None:
        if self._clock.time() - (entry.event.time or 0.0) > ABSENT_FOR:
            self._dead_letter(entry, Failure(entry.handler, "this instance has no such handler", ""), outcome)
        else:
            outcome.retries.append((int(ABSENT_BACKOFF * 1000), retry_entry(entry, entry.handler, entry.attempt)))

    def _failed(self, entry: Entry, failure: Failure, outcome: Outcome) -> None:
        attempts = entry.attempt + 1
        outcome.failures += 1
        if attempts >= self._settings.attempts:
            self._dead_letter(entry, failure, outcome)
            return
        delay = min(MAX_BACKOFF, self._settings.backoff * 2.0**entry.attempt) * random.uniform(0.8, 1.2)
        outcome.retries.append((int(delay * 1000), retry_entry(entry, failure.handler, attempts)))
        self._logger.warning(
            "handler-failed",
            handler=failure.handler,
            error=failure.error,
            event_id=entry.event.id,
            attempt=attempts,
            retry_in=round(delay, 3),
        )

    def _dead_letter(self, entry: Entry, failure: Failure, outcome: Outcome) -> None:
        letter = DeadLetter(
            time=iso_time(self._clock.time()),
            handler=failure.handler,
            error=failure.error,
            traceback=failure.traceback,
            attempts=entry.attempt + 1,
            instance=self._identity.instance,
            host=self._identity.host,
            event=entry.event,
            task=record_at(entry.event, entry.facts) if entry.event.task_id and entry.facts else None,
            entry=retry_entry(entry, failure.handler, 0),
        )
        outcome.dead_letters.append(visible_json(msgspec.json.encode(letter)))
        self._logger.error(
            "dead-letter",
            handler=failure.handler,
            error=failure.error,
            event_id=entry.event.id,
            attempts=entry.attempt + 1,
            letter=letter_id(failure.handler, entry.event.id),
        )
