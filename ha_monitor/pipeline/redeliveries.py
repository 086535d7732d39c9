"""Handles redelivered messages with care, since one of them may have crashed its last consumer.

    redelivered ─► begun < 3 times: merged together, as usual
                   begun < 30 times: merged alone, so that it cannot harm others, and others cannot harm it
                   else: set aside (recorded in the store) and acknowledged

What counts is how often the handling of this message was begun and not finished; every instance records that in the
store before it decodes the message. Crashes while the message was only prefetched do not count: in a series of crashes,
each instance has hundreds of unacknowledged messages and handles few of them. An attempt alone does not count either
unless it came right after another message was merged: otherwise, the fault may be in the store or the program.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.events.decode import Batch, Decoder, Message
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.collector import batch_parts
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.api import Attempts

ALONE_AFTER = 3
"""Failed attempts after which a message is merged alone."""
SET_ASIDE_AFTER = 30
"""Failed attempts, nearly all of them alone, after which a message is set aside."""


class Redeliveries:
    """Groups redelivered messages into batches, and sets aside those that no instance can merge."""

    def __init__(
        self,
        attempts: Attempts,
        identity: Identity,
        stats: Stats,
        logger: Logger,
        clock: Clock,
        *,
        shuffle: Callable[[list[tuple[str, Message]]], None] = random.shuffle,
    ) -> None:
        """:param shuffle: shuffles a list of messages in place."""
        self._shuffle = shuffle
        self._attempts = attempts
        self._identity = identity
        self._stats = stats
        self._logger = logger
        self._clock = clock

    def batches(self, messages: Sequence[Message], decoder: Decoder) -> Iterator[Batch]:
        """The messages in batches, one for each call of the store. A batch must be merged before the next one is
        requested. Messages that are in no batch are set aside.

        :raises StoreUnavailable: if the attempt cannot be recorded.
        """
        named = [(_name(message), message) for message in messages]
        begun = self._attempts.begin([name for name, _ in named], ALONE_AFTER)
        together = [both for both, before in zip(named, begun, strict=True) if before < ALONE_AFTER]
        alone = [both for both, before in zip(named, begun, strict=True) if before >= ALONE_AFTER]
        # In the same order each time, a message that crashes its instance would block those after it forever.
        self._shuffle(alone)
        others_merge = False
        if together:
            yield from _decoded([message for _, message in together], decoder)
            self._attempts.succeeded([name for name, _ in together])
            others_merge = True
        for name, message in alone:
            # A failed attempt is no evidence against a message unless another message could be merged before it.
            (before,) = self._attempts.begin([name], SET_ASIDE_AFTER if others_merge else ALONE_AFTER)
            if before >= SET_ASIDE_AFTER and others_merge:
                self._set_aside(name, message, before, decoder)
                continue
            yield from _decoded([message], decoder)
            self._attempts.succeeded([name])
            others_merge = True

    def _set_aside(self, name: str, message: Message, attempts: int, decoder: Decoder) -> None:
        report = {
            "time": iso_time(self._clock.time()),
            "instance": self._identity.instance,
            "host": self._identity.host,
            "attempts": attempts,
            "size": len(message.body),
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "compression": message.compression,
            "sample": decoder.sample_of(message),
        }
        self._attempts.set_aside(name, msgspec.json.encode(report))
        self._stats.set_aside += 1
        self._logger.error("message-set-aside", attempts=attempts, size=len(message.body))


def _decoded(messages: Sequence[Message], decoder: Decoder) -> list[Batch]:
    batch = Batch()
    decoder.decode(messages, batch)
    return batch_parts(batch)


def _name(message: Message) -> str:
    """A key that is the same at each delivery of a message."""
    return blake2b(message.body, digest_size=12).hexdigest()
