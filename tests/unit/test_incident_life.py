"""How an incident begins, grows and ends, with a simulated clock."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ha_monitor.events.model import Event
from ha_monitor.incidents.catalogue import FLAP_WINDOW, KINDS, RESOLVED_TTL, UNNOTIFIED_TTL
from ha_monitor.incidents.lifecycle import advance
from ha_monitor.incidents.rules import RuleResults
from ha_monitor.incidents.sighting import Sighting
from ha_monitor.store.incidents import BEFORE, MAX_INCIDENTS, Incident, Phase, Severity
from tests.unit.builders import TIME

LATE = Sighting("queue-late", "mail", "3 tasks wait", size=3)
EVERY = 5.0
ALL = frozenset(KINDS)


class Life:
    """The looks of the leader, one after the other."""

    def __init__(self) -> None:
        self.now = TIME
        self.kept: dict[str, Incident] = {}
        self.events: list[Event] = []
        self.believed: frozenset[str] | None = frozenset()
        """Ids of those that a channel believes to fire."""

    def look(
        self,
        *sightings: Sighting,
        judged: frozenset[str] = ALL,
        partial: frozenset[str] = frozenset(),
        times: int = 1,
        every: float = EVERY,
    ) -> None:
        for _ in range(times):
            seen = RuleResults(list(sightings), judged, partial)
            changes = advance(list(self.kept.values()), seen, self.now, believed=self.believed)
            self.kept = {key: one for key, one in self.kept.items() if key not in changes.removed}
            self.kept.update(
                {one.id: msgspec.json.decode(msgspec.json.encode(one), type=Incident) for one in changes.changed}
            )
            self.events += changes.events
            self.now += every

    def look_for(self, seconds: float, *sightings: Sighting, judged: frozenset[str] = ALL) -> None:
        self.look(*sightings, judged=judged, times=int(seconds / EVERY) + 1)

    @property
    def phases(self) -> dict[tuple[str, str], Phase]:
        return {(one.kind, one.key): one.phase for one in self.kept.values()}

    @property
    def only(self) -> Incident:
        (one,) = self.kept.values()
        return one

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.type, event.fields["key"]) for event in self.events]


def lost(*names: str) -> list[Sighting]:
    return [
        Sighting("worker-lost", name, f"{name} is lost", workers=frozenset([name]), members=(name,)) for name in names
    ]


def fired(*sightings: Sighting) -> Life:
    """Seen until all of it fires."""
    life = Life()
    life.look_for(130, *sightings)
    life.events.clear()
    return life


def test_what_is_seen_is_pending_until_it_has_lasted() -> None:
    """Given a kind that must last for a minute, nobody is told before; then once, however long it lasts."""
    life = Life()
    life.look_for(55, LATE)
    assert (life.only.phase, life.events) == (Phase.PENDING, [])

    life.look_for(600, LATE)

    assert life.only.phase is Phase.FIRING
    assert life.told == [("incident-opened", "mail")]
    assert life.events[0].fields["incident"] == life.only.id
    assert life.events[0].fields["summary"] == "3 tasks wait"


def test_even_what_is_certain_is_pending_until_the_next_look() -> None:
    """Given a kind that fires at once, its id is written before anybody is told."""
    life = Life()
    life.look(*lost("celery@a"))
    assert (life.only.phase, life.events) == (Phase.PENDING, [])

    life.look(*lost("celery@a"))

    assert life.told == [("incident-opened", "celery@a")]


def test_what_was_pending_and_is_over_leaves_nothing() -> None:
    """Given a queue that is late for a moment, nobody is told, and nothing of it is kept."""
    life = Life()
    life.look(LATE, times=3)
    life.look()

    assert (life.kept, life.events) == ({}, [])


def test_an_incident_grows() -> None:
    """Given more of the same, size and sentence follow, the id stays, and no second line is written."""
    life = fired(LATE)
    before = life.only

    life.look(LATE._replace(size=9, summary="9 tasks wait"))

    assert (life.only.id, life.only.size, life.only.summary) == (before.id, 9, "9 tasks wait")
    assert life.only.changed > before.changed
    assert life.events == []


def test_what_changed_before_it_stays_what_it_was() -> None:
    """Given an incident that began after a deployment, a later one is not what was before it."""
    life = fired(LATE._replace(facts={BEFORE: "deploy v512, 4 min earlier"}))

    life.look(LATE._replace(facts={"n": 1}))
    assert life.only.facts == {"n": 1, BEFORE: "deploy v512, 4 min earlier"}
    life.look(LATE._replace(facts={BEFORE: "deploy v513, 1 min earlier"}))

    assert life.only.facts == {BEFORE: "deploy v512, 4 min earlier"}


def test_an_incident_ends_when_it_was_quiet_for_long_enough() -> None:
    """Given a queue that is no longer late, its incident is resolved after two minutes, once, and kept for an hour."""
    life = fired(LATE)
    life.look_for(115)
    assert life.only.phase is Phase.FIRING

    life.look_for(10)

    assert life.only.phase is Phase.RESOLVED
    assert life.told == [("incident-resolved", "mail")]
    life.look_for(RESOLVED_TTL)
    assert life.kept == {}
    assert len(life.events) == 1


def test_one_that_is_over_is_kept_until_each_channel_has_heard_of_that() -> None:
    """Given a channel that was told of an incident and is away when it ends, the incident is kept for longer than an
    hour, without a word, and goes once the channel has heard of its end; and after a day at the latest."""
    life = fired(LATE)
    life.believed = frozenset([life.only.id])
    life.look_for(120)
    for hours in (5, 23):
        life.now = life.only.changed + hours * 3600
        life.look(times=2)
        assert (life.only.phase, len(life.events)) == (Phase.RESOLVED, 1)
    kept = dict(life.kept)

    life.believed = frozenset(["another"])
    life.look()
    assert life.kept == {}
    life.kept, life.believed = kept, frozenset(kept)
    life.now = life.only.changed + UNNOTIFIED_TTL
    life.look()

    assert life.kept == {}


def test_a_leader_that_does_not_know_what_was_told_drops_nothing() -> None:
    """Given a new leader that has not read yet what the channels know, what is over stays until it has."""
    life = fired(LATE)
    life.look_for(120)
    life.now += RESOLVED_TTL
    life.believed = None
    life.look(times=3)
    assert life.only.phase is Phase.RESOLVED

    life.believed = frozenset()
    life.look()

    assert life.kept == {}


def test_one_that_comes_again_leaves_the_end_of_the_last_one_to_be_told() -> None:
    """Given a worker that is lost again while a channel has not heard that it was back, both incidents are there: the
    new one goes its way, the old one changes no more, also where the clock is put back, and in whatever order the store
    has them; it goes once that is told.
    """
    life = fired(*lost("celery@a"))
    life.believed = frozenset([life.only.id])
    life.look()
    life.look_for(FLAP_WINDOW)
    old = life.only
    life.look(*lost("celery@a"), times=3)
    assert [one.phase for one in life.kept.values()] == [Phase.RESOLVED, Phase.FIRING]
    assert life.kept[old.id] == old

    life.now -= 3600
    life.kept = dict(reversed(life.kept.items()))
    life.look(*lost("celery@a"), times=3)
    assert [one.phase for one in life.kept.values()] == [Phase.FIRING, Phase.RESOLVED]
    assert life.told == [("incident-resolved", "celery@a"), ("incident-opened", "celery@a")]
    life.believed = frozenset()
    life.look(*lost("celery@a"))

    assert (life.only.id != old.id, life.only.phase) == (True, Phase.FIRING)


def test_what_ends_has_the_figures_of_now() -> None:
    """Given an incident that is not over yet, its sentence and facts follow; neither its size nor its end does, and
    nothing is born of it."""
    failing = Sighting("failing", "shop.pay", "9 of 20 failed", size=9, facts={"failed": 9, BEFORE: "deploy v512"})
    better = failing._replace(summary="1 of 200 failed", size=1, facts={"failed": 1}, is_ending=True)
    life = fired(failing)
    life.look(better)
    assert (life.only.summary, life.only.size) == ("1 of 200 failed", 9)
    assert life.only.facts == {"failed": 1, BEFORE: "deploy v512"}
    assert life.only.quiet_since is not None

    life.look_for(600, better)

    assert life.told == [("incident-resolved", "shop.pay")]
    life.look_for(FLAP_WINDOW, better)
    assert (life.only.phase, life.only.opened) == (Phase.RESOLVED, 1)
    nothing = Life()
    nothing.look(better, times=3)
    assert nothing.kept == {}


def test_a_pause_does_not_end_it() -> None:
    """Given a queue that is late again before two minutes are over, its incident goes on without a word."""
    life = fired(LATE)
    for _ in range(5):
        life.look_for(100)
        life.look(LATE)

    assert (life.only.phase, life.events) == (Phase.FIRING, [])
    assert life.only.quiet_since is None


def test_one_that_comes_again_soon_keeps_its_id() -> None:
    """Given a worker that is back and lost again within the group interval, it is the same incident, and each change
    has a line with an id of its own; later it is another.
    """
    life = fired(*lost("celery@a"))
    first = life.only.id
    for _ in range(3):
        life.look()
        life.look(*lost("celery@a"), times=2)
    assert life.only.id == first
    assert life.told == [("incident-resolved", "celery@a"), ("incident-opened", "celery@a")] * 3
    assert len({event.id for event in life.events}) == 6

    life.look()
    life.look_for(FLAP_WINDOW)
    life.look(*lost("celery@a"), times=2)

    assert life.only.id != first


def test_nothing_begins_or_ends_while_it_cannot_be_judged() -> None:
    """Given events that are still on their way, what they would tell of is neither born nor resolved, however long that
    lasts, and what is said of the monitor itself is.
    """
    full = Sighting("monitor", "store", "Redis is full")
    life = fired(LATE)

    life.look_for(3600, full, LATE._replace(key="other"), judged=frozenset(["monitor"]))

    assert life.phases == {("queue-late", "mail"): Phase.FIRING, ("monitor", "store"): Phase.FIRING}
    life.look_for(110, full)
    assert life.phases["queue-late", "mail"] is Phase.FIRING  # that time did not count as quiet
    life.look_for(20, full)
    assert life.phases["queue-late", "mail"] is Phase.RESOLVED


def test_the_time_in_which_it_could_not_be_judged_does_not_count_as_pending() -> None:
    """Given a queue that is pending when events begin to be late, it must be seen for a minute from then on."""
    life = Life()
    life.look(LATE, times=2)
    life.look_for(300, LATE, judged=frozenset())
    life.look_for(50, LATE)
    assert life.only.phase is Phase.PENDING

    life.look_for(20, LATE)

    assert life.only.phase is Phase.FIRING


def test_a_clock_that_is_put_back_neither_opens_nor_holds_up() -> None:
    """Given the store's clock put back by an hour, what fires goes on firing, and ends in its time."""
    life = fired(LATE)
    life.now -= 3600
    life.look(LATE, times=3)
    assert (life.only.phase, life.events) == (Phase.FIRING, [])
    life.look()
    life.now -= 3600
    life.look_for(125)

    assert life.told == [("incident-resolved", "mail")]
    assert life.only.changed <= life.now


def test_an_empty_store_tells_nothing() -> None:
    """Given nothing seen and nothing kept, there is nothing to write."""
    assert advance([], RuleResults([], ALL), TIME).is_empty


def test_a_look_without_news_writes_nothing() -> None:
    """Given the same as before, there is nothing to write."""
    life = fired(LATE)

    assert advance(list(life.kept.values()), RuleResults([LATE], ALL), life.now).is_empty


def test_many_workers_lost_within_a_minute_are_one_incident() -> None:
    """Given seven workers that are lost one after the other within a minute, there is one incident that grows; one that
    is lost later is another.
    """
    names = [f"celery@{letter}" for letter in "abcdefg"]
    life = Life()
    for count in range(1, 8):
        life.look(*lost(*names[:count]))
    assert (life.only.size, life.only.members) == (7, tuple(names))
    assert life.only.summary.startswith("7 workers are lost, celery@a, celery@b and 5 more")
    assert life.told == [("incident-opened", "celery@a")]

    life.look_for(60, *lost(*names))
    life.look(*lost(*names, "celery@z"), times=2)

    assert life.phases == {("worker-lost", "celery@a"): Phase.FIRING, ("worker-lost", "celery@z"): Phase.FIRING}


def test_an_incident_of_many_workers_ends_with_the_last() -> None:
    """Given three workers lost together, the incident says how many are back, and is over when all are."""
    life = fired(*lost("celery@a", "celery@b", "celery@c"))
    life.look(*lost("celery@c"))
    assert life.only.summary.startswith("1 of 3 workers is lost, celery@c")
    assert (life.only.size, life.only.facts["back"], life.events) == (1, 2, [])

    life.look()

    assert life.told == [("incident-resolved", "celery@a")]


def test_one_of_many_that_flaps_is_the_same_incident() -> None:
    """Given workers that were lost together and are back, one of them lost again soon has the same id."""
    life = fired(*lost("celery@a", "celery@b"))
    first = life.only.id
    life.look()
    life.look(*lost("celery@b"))

    assert (life.only.id, life.only.phase) == (first, Phase.FIRING)


def test_what_is_not_seen_lasts_while_not_all_was_looked_at() -> None:
    """Given orphaned tasks of two names, looks at only some tasks, of one of these names, end neither incident, and let
    new ones begin; a look at all tasks ends once what it does not see.
    """
    big, rare, new = (Sighting("task-orphaned", f"shop.{name}", "orphaned") for name in ("big", "rare", "new"))
    life = fired(big, rare)

    life.look(big, new, partial=frozenset(["task-orphaned"]), times=3)

    assert life.phases == dict.fromkeys((("task-orphaned", one.key) for one in (big, rare, new)), Phase.FIRING)
    assert life.told == [("incident-opened", "shop.new")]
    life.look(big, new, times=2)
    assert life.told[1:] == [("incident-resolved", "shop.rare")]


def test_what_follows_from_another_says_so_while_that_fires() -> None:
    """Given tasks that are orphaned since their worker is lost, they name its incident as their cause; those of other
    workers do not; and none does once that is over.
    """
    orphaned = Sighting("task-orphaned", "shop.pay", "1 task is orphaned", workers=frozenset(["celery@a"]))
    other = Sighting("task-orphaned", "shop.bill", "1 task is orphaned", workers=frozenset(["celery@b"]))
    life = fired(*lost("celery@a"), orphaned, other)
    by_key = {one.key: one for one in life.kept.values()}
    assert by_key["shop.pay"].cause == by_key["celery@a"].id
    assert by_key["shop.bill"].cause is None

    life.look(orphaned, other)

    assert [one.cause for one in life.kept.values()] == [None, None, None]


def test_a_queue_that_nobody_consumes_is_the_cause_of_its_being_late() -> None:
    """Given both, of one queue, the second names the first; that of another queue does not."""
    unused = Sighting("no-consumer", "mail", "no worker consumes queue mail")
    life = fired(LATE, LATE._replace(key="other"), unused)

    causes = {(one.kind, one.key): one.cause for one in life.kept.values()}
    (cause,) = (one.id for one in life.kept.values() if one.kind == "no-consumer")
    assert causes == {
        ("queue-late", "mail"): cause,
        ("queue-late", "other"): None,
        ("no-consumer", "mail"): None,
    }


def names(count: int, kind: str = "failing") -> Sequence[Sighting]:
    return [Sighting(kind, f"task{number:03}", "fails") for number in range(count)]


def test_there_are_never_more_than_are_kept() -> None:
    """Given more than fit, what is over makes room for what is not, and what wakes somebody comes first."""
    life = Life()
    life.look(*names(300), times=2)
    life.look(times=3, every=600)
    assert {one.phase for one in life.kept.values()} == {Phase.RESOLVED}
    life.events.clear()

    life.look(*names(450, "task-stuck"), *names(80, "no-consumer"), times=3, every=120)

    kept = list(life.kept.values())
    assert len(kept) == MAX_INCIDENTS
    assert sum(one.severity is Severity.PAGE for one in kept) == 80
    assert {one.phase for one in kept} == {Phase.FIRING}
    assert len(life.events) == MAX_INCIDENTS


def test_of_what_is_over_the_ends_that_are_not_told_yet_go_last() -> None:
    """Given more than fit, room is made by what is over and known to be before what a channel believes to fire."""
    life = Life()
    life.look(*names(300), times=2)
    life.believed = frozenset(one.id for one in life.kept.values() if one.key >= "task290")
    life.look(times=3, every=600)
    life.look(*names(490, "no-consumer"), times=2)

    assert sorted(one.key for one in life.kept.values() if not one.is_open) == [f"task{n}" for n in range(290, 300)]
    assert len(life.kept) == MAX_INCIDENTS


def test_one_of_a_kind_that_this_version_does_not_know_is_dropped() -> None:
    """Given an incident that a later version wrote, it is removed without a word."""
    one = Incident("x", "unheard-of", "", Severity.PAGE, Phase.FIRING, TIME, TIME, "?")

    changes = advance([one], RuleResults([], ALL), TIME)

    assert (changes.changed, changes.removed, changes.events) == ([], ["x"], [])
