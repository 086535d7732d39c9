"""Calls the handlers for the items of the outbox, and decides what happens after failures."""

from __future__ import annotations

import random

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Handlers as HandlerSettings
from ha_monitor.outputs.handlers import Failure, Handlers
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.store.dead_letters import DeadLetter, letter_id
from ha_monitor.store.outbox import Entry, OutboxItem, retry_entry
from ha_monitor.store.record import record_at
from ha_monitor.text.visible import visible_json

MAX_BACKOFF = 3600.0
ABSENT_FOR = 3600.0
"""Seconds after an event for which another instance may have a handler that this one lacks, as during a rollout."""
ABSENT_BACKOFF = 15.0
"""Seconds until another instance may try the call."""


class Outcome(msgspec.Struct):
    """What remains to be recorded after the calls."""

    retries: list[tuple[int, bytes]] = msgspec.field(default_factory=list)
    """(delay in ms, entry) of handler calls to be retried."""
    dead_letters: list[bytes] = msgspec.field(default_factory=list)
    failures: int = 0
    """How many handlers failed."""

    @property
    def is_open(self) -> bool:
        """Whether something is left to be recorded."""
        return bool(self.retries or self.dead_letters)


class HandlerCalls:
    """The calls of this instance's handlers."""

    def __init__(
        self, handlers: Handlers, settings: HandlerSettings, identity: Identity, logger: Logger, clock: Clock
    ) -> None:
        self._handlers = handlers
        self._settings = settings
        self._identity = identity
        self._logger = logger
        self._clock = clock

    @property
    def any(self) -> bool:
        """Whether this instance has handlers."""
        return self._handlers.any

    @property
    def keep_dead_letters(self) -> int:
        """How many dead letters the store keeps."""
        return self._settings.dead_letters

    def are_due(self, item: OutboxItem) -> bool:
        """Whether `call` has something to do."""
        return item.entry.kind == 1 or bool(self._handlers.due(item.entry))

    def call(self, item: OutboxItem, outcome: Outcome) -> None:
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
