"""Messages that were delivered before are merged with care, and set aside only if nobody can merge them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

import pytest

from ha_monitor.config.schema import DEFAULT_REDACTED
from ha_monitor.events.decode import Decoder, Message
from ha_monitor.events.redact import Redactor
from ha_monitor.outputs.line import Identity
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.redeliveries import ALONE_AFTER, SET_ASIDE_AFTER, Redeliveries
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.api import Attempts
from tests.unit.builders import TurnedClock, event, fact_builder


class Died(Exception):
    """The instance is no more."""


class Notes:
    """`Attempts`, in memory."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.aside: list[dict[str, Any]] = []

    def begin(self, names: Sequence[str], below: int) -> list[int]:
        before = [self.begun.get(name, 0) for name in names]
        for name, count in zip(names, before, strict=True):
            if count < below:
                self.begun[name] = count + 1
        return before

    def succeeded(self, names: Sequence[str]) -> None:
        for name in names:
            self.begun.pop(name, None)

    def set_aside(self, name: str, entry: bytes) -> None:
        self.begun.pop(name, None)
        self.aside.append(json.loads(entry))


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def error(self, name: str, **fields: Any) -> None:
        self.said.append((name, fields))


class Bed:
    """Instances that come one after the other, with one store and one queue."""

    def __init__(self, shuffle: Callable[[list[Any]], None] | None = None) -> None:
        """:param shuffle: None to keep the order."""
        self.notes, self.lines, self.stats = Notes(), Lines(), Stats()
        self.decoder = Decoder(fact_builder(), Redactor(DEFAULT_REDACTED, 500))
        self.redeliveries = Redeliveries(
            cast(Attempts, self.notes),
            Identity("shop", "1", "host", 1),
            self.stats,
            cast(Logger, self.lines),
            TurnedClock(),
            shuffle=(lambda messages: None) if shuffle is None else shuffle,
        )
        self.merged: set[str] = set()

    def live(self, messages: Sequence[Message], *, deadly: str = "", dies_after: int = 10**9) -> list[int]:
        """Let an instance merge messages until it dies, of one of them or after so many batches; returns the sizes of
        those that it merged."""
        sizes: list[int] = []
        try:
            for batch in self.redeliveries.batches(messages, self.decoder):
                if deadly in batch.tasks or len(sizes) == dies_after:
                    raise Died
                self.merged |= batch.tasks.keys()
                sizes.append(batch.message_count)
        except Died:
            pass
        return sizes


def messages(*names: str) -> list[Message]:
    return [Message(json.dumps(event("task-started", uuid=name)).encode(), redelivered=True) for name in names]


def test_messages_that_never_failed_are_merged_together() -> None:
    """Given messages that came again, they are one batch, and nothing of it is remembered afterwards."""
    bed = Bed()

    assert bed.live(messages("a", "b", "c")) == [3]
    assert bed.merged == {"a", "b", "c"}
    assert bed.notes.begun == {}


def test_after_some_attempts_in_vain_each_is_merged_alone() -> None:
    """Given a message that kills whoever merges it, its neighbours are merged without it after a few deaths."""
    bed = Bed()
    some = messages("a", "deadly", "b")

    for _ in range(ALONE_AFTER):
        assert bed.live(some, deadly="deadly") == []
    assert bed.live(some, deadly="deadly") == [1]
    # The broker gives what the dead instance did not acknowledge to the next, in whatever order.
    bed.live(some[::-1], deadly="deadly")

    assert bed.merged == {"a", "b"}


def test_a_message_that_kills_everybody_is_set_aside_in_the_end() -> None:
    """Given such a message, after enough instances have died of it alone, it is kept for looking at, told of and
    counted, and its neighbours are merged."""
    bed = Bed()
    some = messages("a", "deadly", "b")

    deaths = next(n for n in itertools.count() if bed.live(some, deadly="deadly") and bed.stats.set_aside)

    assert deaths == SET_ASIDE_AFTER
    assert bed.merged == {"a", "b"}
    (told,) = bed.notes.aside
    assert told["attempts"] == SET_ASIDE_AFTER
    assert told["size"] == len(some[1].body)
    assert json.loads(told["sample"])["uuid"] == "deadly"
    assert bed.lines.said == [("message-set-aside", {"attempts": SET_ASIDE_AFTER, "size": len(some[1].body)})]
    assert bed.notes.begun == {}


def test_nothing_is_set_aside_while_nothing_can_be_merged() -> None:
    """Given a fault that lets no message be merged, such as a Redis that refuses the script, all are kept for as long
    as it lasts, and merged afterwards."""
    bed = Bed()
    some = messages(*"abcde")

    for _ in range(10 * SET_ASIDE_AFTER):
        assert bed.live(some, dies_after=0) == []
    assert bed.stats.set_aside == 0
    bed.live(some)

    assert bed.merged == set("abcde")
    assert bed.stats.set_aside == 0


def test_a_lone_deadly_message_is_set_aside_with_the_next_good_one() -> None:
    """Given nothing but a message that kills everybody, it is tried again and again, which costs no other; as others
    come and are merged, it is set aside."""
    bed = Bed()
    for _ in range(2 * SET_ASIDE_AFTER):
        bed.live(messages("deadly"), deadly="deadly")
    assert bed.stats.set_aside == 0

    for number in range(SET_ASIDE_AFTER - ALONE_AFTER + 1):
        assert bed.stats.set_aside == 0
        assert bed.live(messages("deadly", f"heartbeat-{number}"), deadly="deadly") == [1]

    assert bed.stats.set_aside == 1


def test_a_deadly_message_keeps_no_other_for_ever() -> None:
    """Given a message that kills everybody, in front of others that are merged alone, too, those are merged."""
    bed = Bed(Random(1).shuffle)
    some = messages("deadly", "a", "b", "c")
    for _ in range(ALONE_AFTER):
        bed.live(some, dies_after=0)

    for _ in range(30):
        bed.live(some, deadly="deadly")

    assert bed.merged == {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(20))
def test_a_series_of_kills_sets_nothing_aside(seed: int) -> None:
    """Given instances that are killed at any step twenty times in a row, nothing is set aside, and all is merged."""
    bed, random = Bed(), Random(seed)
    names = [f"task-{number}" for number in range(50)]

    for _ in range(20):
        random.shuffle(names)
        bed.live(messages(*names), dies_after=random.choice([0, 0, 1, 30]))
    bed.live(messages(*names))

    assert bed.stats.set_aside == 0
    assert bed.merged == set(names)


def test_kills_that_always_hit_the_same_message_do_not_set_it_aside() -> None:
    """Given twenty kills in a row, each while the very same message is merged, it is merged by the next."""
    bed = Bed()

    for _ in range(20):
        bed.live(messages("a"), dies_after=0)

    assert bed.live(messages("a")) == [1]
    assert bed.stats.set_aside == 0


def test_what_succeeded_once_begins_anew() -> None:
    """Given a message that was merged after many attempts, and comes again, they do not count any more."""
    bed = Bed()
    for _ in range(SET_ASIDE_AFTER - 1):
        bed.live(messages("a"), dies_after=0)
    bed.live(messages("a"))

    assert bed.live(messages("a", "b")) == [2]


def test_a_secret_in_what_is_set_aside_is_hidden() -> None:
    """Given a message with a password in it, what is kept of it does not show it, and is short."""
    bed = Bed()
    body = json.dumps(event("task-received", uuid="a", kwargs="{'password': 'hunter2'}", args="x" * 50_000)).encode()
    for number in range(SET_ASIDE_AFTER + 1):
        bed.live([Message(body, redelivered=True), *messages(f"b-{number}")], deadly="a")

    (told,) = bed.notes.aside
    assert "hunter2" not in told["sample"]
    assert len(told["sample"]) <= 500
