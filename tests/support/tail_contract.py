"""What the tail of the fleet shows in every implementation of the store."""

from __future__ import annotations

import pytest

from ha_monitor.store.tail import RENEWED_EVERY, Tail, TailEvent, TailGap
from tests.support.store_contract import Bed, life, merge, started, tick
from tests.unit.builders import TIME, decode, event


def looking(bed: Bed) -> Tail:
    tail = bed.tail()
    tail.begin()
    return tail


def read(tail: Tail, bed: Bed | None = None) -> list[TailEvent | TailGap]:
    """All that has come.

    :param bed: the record, if the next call is to be made as late as that the wish is renewed.
    """
    if bed is not None:
        bed.clock.now += RENEWED_EVERY
    found: list[TailEvent | TailGap] = []
    while some := tail.read(0.01):
        found += some
    return found


def told(found: list[TailEvent | TailGap]) -> list[tuple[str | None, str]]:
    """Tasks and events, in the order in which they came."""
    return [(one.entry.event.task_id, one.entry.event.type) for one in found if isinstance(one, TailEvent)]


def gaps(found: list[TailEvent | TailGap]) -> list[TailGap]:
    return [one for one in found if isinstance(one, TailGap)]


class TailContract:
    """Inherit it beside a fixture `bed`."""

    def test_what_each_instance_announces_comes_once(self, bed: Bed) -> None:
        """Given two instances, and two readers that begin before and between their calls, each reader gets what was
        announced from then on, once: also where the same event came to both instances; with who announced it."""
        one, two = started(bed), started(bed)
        merge(one, decode(*life("before")))
        first = looking(bed)
        merge(one, decode(*life("a")))
        second = looking(bed)
        merge(two, decode(*life("a"), *life("b", start=TIME + 9), event("custom", uuid=None)))

        a, b = ([(task_id, f"task-{what}") for what in ("received", "started", "succeeded")] for task_id in ("a", "b"))
        found = read(first)
        assert (told(found), gaps(found)) == ([*a, *b, (None, "custom")], [])
        assert told(read(second)) == [*b, (None, "custom")]
        assert {shown.who["instance"] for shown in found if isinstance(shown, TailEvent)} == {"1"}
        assert read(first) == read(second) == []

    def test_who_looks_again_sees_nothing_of_before(self, bed: Bed) -> None:
        """Given a reader that is gone, whose wish has ended while the tail still has what it saw, the next ones get
        what is announced from then on, and miss nothing.
        """
        one = started(bed)
        first = looking(bed)
        merge(one, decode(*life("a")))
        assert len(told(read(first))) == 3
        bed.let_wish_end()

        later = looking(bed), looking(bed)
        found = [read(one, bed) for one in later]
        merge(one, decode(*life("b", start=TIME + 9)))
        found = [before + read(one, bed) for before, one in zip(found, later, strict=True)]

        assert [[task_id for task_id, _ in told(one)] for one in found] == [["b"] * 3] * 2
        assert [gaps(one) for one in found] == [[], []]

    def test_what_waited_comes_when_it_is_announced(self, bed: Bed) -> None:
        """Given an event that waits for its task's name, it comes when the wait is over, as incomplete."""
        one = started(bed, name_wait=0.2)
        tail = looking(bed)
        merge(one, decode(event("task-started", uuid="a", at=TIME)))
        assert read(tail) == []

        bed.let_wait_end()
        bed.pass_time(2.5)
        tick(one, eligible=True)
        (found,) = read(tail)
        assert isinstance(found, TailEvent)
        assert (told([found]), found.entry.incomplete) == ([("a", "task-started")], True)

    def test_whoever_takes_an_outbox_over_shows_nothing_again(self, bed: Bed) -> None:
        """Given an instance that died between merging and announcing, what it had merged has come, and does not come
        again when another takes it over."""
        dead, other = started(bed), started(bed)
        tail = looking(bed)
        merge(dead, decode(*life("a")))
        bed.let_lease_end(dead.store.token)
        taken, found = [], read(tail)
        for _ in range(6):
            bed.clock.now += 20
            taken += tick(other, eligible=True).items
            found += read(tail)

        assert [item.entry.event.type for item in taken] == ["task-received", "task-started", "task-succeeded"]
        assert (len(told(found)), gaps(found)) == (3, [])

    def test_nothing_is_kept_while_nobody_looks(self, bed: Bed) -> None:
        """Given a reader that has not asked for long, what was announced meanwhile is not there; it is told so, and
        what comes from then on is."""
        one = started(bed)
        tail = looking(bed)
        merge(one, decode(*life("a")))
        assert len(read(tail)) == 3
        bed.let_wish_end()
        merge(one, decode(*life("b")))

        found = read(tail, bed)
        merge(one, decode(*life("c")))
        found += read(tail)

        assert [(task_id, kind) for task_id, kind in told(found) if task_id != "c"] == []
        assert len(told(found)) == 3
        assert [gap.missing for gap in gaps(found)] == [None]

    def test_another_reader_goes_on_where_one_was(self, bed: Bed) -> None:
        """Given the cursor of a reader, another one, such as that of a server that was started again, gets what was
        announced behind it, once and without a gap; and from a later cursor what came later."""
        one = started(bed)
        first = looking(bed)
        merge(one, decode(*life("a")))
        read(first)
        merge(one, decode(*life("b")))

        found = []
        cursor = first.cursor
        for task_id in ("c", "d"):
            second = bed.tail()
            second.resume(cursor)
            found.append(read(second, bed))
            cursor = second.cursor
            merge(one, decode(*life(task_id)))
        third = bed.tail()
        third.resume(cursor)
        found.append(read(third))

        assert [[task_id for task_id, _ in told(some)] for some in found] == [["b"] * 3, ["c"] * 3, ["d"] * 3]
        assert [gaps(some) for some in found] == [[], [], []]

    def test_who_goes_on_too_late_is_told_so_once(self, bed: Bed) -> None:
        """Given a cursor from before nobody looked for long, whoever goes on there is told that something may be
        missing, gets nothing twice, and all that comes from then on."""
        one = started(bed)
        first = looking(bed)
        merge(one, decode(*life("a")))
        read(first)
        bed.let_wish_end()
        merge(one, decode(*life("missed")))

        second = bed.tail()
        second.resume(first.cursor)
        found = read(second)
        merge(one, decode(*life("b")))
        third = bed.tail()
        third.resume(second.cursor)
        later = read(third)

        assert (told(found), [gap.missing for gap in gaps(found)]) == ([], [None])
        assert ([task_id for task_id, _ in told(later)], gaps(later)) == (["b"] * 3, [])

    def test_what_is_no_cursor_is_refused(self, bed: Bed) -> None:
        """Given texts that are no cursor, nothing is asked with them."""
        for text in ("", "x", "1", "0-0", "0-0.", "-1.-", "0-0.x", "9" * 400 + "-0.-"):
            with pytest.raises(ValueError, match="expected"):
                bed.tail().resume(text)
