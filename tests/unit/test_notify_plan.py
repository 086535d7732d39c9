"""Which messages are due, in a world of incidents, one store and a clock that the test turns."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from ha_monitor.config.notify import Route
from ha_monitor.errors import ConfigurationError
from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.notify.plan import MAX_PARTS, MAX_PER_HOUR, NoticeKey, Pace, Plan, Retry, believed_to_fire, plan
from ha_monitor.notify.routes import channels_for, require_kinds
from ha_monitor.store.deliveries import (
    Claim,
    DeliveryState,
    Part,
    entry_of,
    field_of,
    notified_by,
    notified_by_channel,
    read_notified,
)
from ha_monitor.store.incidents import Incident, Notified, Phase, Severity, Silence

START = 1_000_000.0
NO_WAIT = Pace(group_wait=0.0, group_interval=0.0, repeat_interval=60.0, max_per_hour=None, resolved_resent_for=120.0)


def incident(name: str, at: float = START, **changes: Any) -> Incident:
    known: dict[str, Any] = {
        "id": name,
        "kind": "worker-lost",
        "key": f"celery@{name}",
        "severity": Severity.PAGE,
        "phase": Phase.FIRING,
        "since": at,
        "changed": at,
        "summary": f"worker celery@{name} is lost",
    }
    return Incident(**{**known, **changes})


class World:
    """What the leaders keep in the store, and a receiver that takes every message at once."""

    def __init__(self, routes: list[Route] | None = None, **paces: Pace) -> None:
        self.now = START
        self.routes = routes or []
        self.paces = paces or {"chat": Pace()}
        self.incidents: dict[str, Incident] = {}
        self.told: dict[tuple[str, str], Notified] = {}
        self.taken: dict[str, list[float]] = {}
        self.claims: list[Claim] = []
        self.held: frozenset[str] = frozenset()
        self.refused: dict[NoticeKey, Retry] = {}
        self.messages: list[tuple[float, Claim]] = []
        """When each message was taken, in seconds since the start."""

    def put(self, *incidents: Incident) -> None:
        self.incidents |= {one.id: one for one in incidents}

    def end(self, name: str) -> None:
        old = self.incidents[name]
        self.put(incident(name, phase=Phase.RESOLVED, since=old.since, changed=self.now, kind=old.kind))

    def book(self) -> DeliveryState:
        return DeliveryState(self.now, dict(self.told), list(self.claims), self.taken)

    def plan(self) -> Plan:
        known = list(self.incidents.values())
        made = plan(known, self.routes, self.paces, self.book(), token=1, held=self.held, refused=self.refused)
        self.told |= {(name, channel): Notified(at, Phase.PENDING, 0) for name, channel, at in made.noted}
        for key in made.forgotten:
            del self.told[key]
        return made

    def live(self, seconds: float, step: float = 1.0) -> None:
        until = self.now + seconds
        while self.now < until:
            for claim in self.plan().messages:
                self.messages.append((self.now - START, claim))
                self.told |= notified_by(claim, self.now)
                self.taken.setdefault(claim.channel, []).append(self.now)
            self.now += step

    def said(self, channel: str = "chat") -> list[tuple[float, str, list[str]]]:
        """(when, id, what) of each message."""
        return [
            (at, claim.id, [f"{part.incident} {part.phase.value}" for part in claim.parts])
            for at, claim in self.messages
            if claim.channel == channel
        ]


def test_the_first_of_a_kind_waits_for_others_and_is_told_with_them() -> None:
    """Given two workers that are lost 20 s apart, one message half a minute after the first tells of both."""
    world = World()
    world.put(incident("a"))
    world.live(20)
    world.put(incident("b", world.now))
    world.live(60)

    assert world.said() == [(30.0, "a.chat.1", ["a firing", "b firing"])]


def test_more_of_the_same_comes_after_five_minutes_and_another_kind_at_once() -> None:
    """Given a message about a lost worker, another lost worker is told five minutes after it, and a queue that is late
    half a minute after it is."""
    world = World()
    world.put(incident("a"))
    world.live(40)
    world.put(incident("b", world.now), incident("q", world.now, kind="queue-late"))
    world.live(400)

    assert world.said() == [
        (30.0, "a.chat.1", ["a firing"]),
        (70.0, "q.chat.1", ["q firing"]),
        (330.0, "b.chat.1", ["b firing"]),
    ]


def test_what_has_grown_is_told_after_five_minutes() -> None:
    """Given an incident of ten tasks that was told, 19 are no news for four hours, and 20 are five minutes after the
    last message; the message after that counts from these."""
    world = World()
    world.put(incident("a", size=10))
    world.live(40)
    world.put(incident("a", size=19))
    world.live(1000)
    assert len(world.messages) == 1
    world.put(incident("a", size=20))
    world.live(100)
    world.put(incident("a", size=40))
    world.live(100)
    world.put(incident("a", size=5))
    world.live(100)
    world.put(incident("a", size=39))
    world.live(1000)
    world.put(incident("a", size=41))
    world.live(100)

    assert world.said() == [
        (30.0, "a.chat.1", ["a firing"]),
        (1040.0, "a.chat.2", ["a firing"]),
        (2340.0, "a.chat.3", ["a firing"]),
    ]


def test_a_worker_more_is_told_however_many_there_are() -> None:
    """Given forty lost workers that were told of, one more of them is told five minutes after, together with what is
    lost until then, though one is back."""
    names = tuple(f"celery@{number}" for number in range(43))
    world = World()
    world.put(incident("a", size=40, members=names[:40]))
    world.live(100)
    world.put(incident("a", size=40, members=names[:41]))
    world.live(100)
    world.put(incident("a", size=42, members=names))
    world.live(3600)

    assert [at for at, *_ in world.said()] == [30.0, 330.0]


def test_a_service_that_knows_incidents_is_told_at_once_that_one_has_grown() -> None:
    """Given PagerDuty, the incident is brought up to date as soon as it is twice as large, and not at each look."""
    world = World(pager=Pace(group_interval=0.0, max_per_hour=None))
    world.put(incident("a", size=3))
    for size in range(4, 13):
        world.live(40)
        world.put(incident("a", size=size))
    world.live(40)

    assert [(at, claim.parts[0].size) for at, claim in world.messages] == [(30.0, 3), (120.0, 6), (360.0, 12)]


def test_growth_is_bounded_as_all_messages_are() -> None:
    """Given an incident that doubles every minute for two hours, no hour has more than twelve messages about it."""
    world = World()
    for minute in range(120):
        world.put(incident("a", size=2**minute))
        world.live(60, step=10)

    assert [at for at, *_ in world.said()] == [30.0 + 300 * number for number in range(24)]


def test_what_was_told_by_an_earlier_version_has_not_grown() -> None:
    """Given an entry without a size, the incident is told again after four hours, not at once."""
    world = World()
    world.put(incident("a", size=10))
    world.told["a", "chat"] = Notified(START - 600, Phase.FIRING, 1)
    world.live(1000)

    assert world.messages == []


def test_what_still_fires_is_told_again_after_four_hours() -> None:
    """Given an incident that goes on for nine hours, it is told three times, each under an id of its own."""
    world = World()
    world.put(incident("a"))
    world.live(9 * 3600, step=30)

    assert [(at, name) for at, name, _ in world.said()] == [
        (30.0, "a.chat.1"),
        (30.0 + 4 * 3600, "a.chat.2"),
        (30.0 + 8 * 3600, "a.chat.3"),
    ]


def test_an_end_is_told_once_to_those_who_were_told_that_it_fires() -> None:
    """Given an incident that one channel of two was told of, its end is told there, once."""
    world = World([Route(["chat"], kinds=["worker-*"])], chat=Pace(), mail=Pace())
    world.put(incident("a"))
    world.live(100)
    world.end("a")
    world.live(1000)

    assert world.said() == [(30.0, "a.chat.1", ["a firing"]), (330.0, "a.chat.2", ["a resolved"])]
    assert world.said("mail") == []


def test_what_ends_before_it_is_told_is_not_told_at_all() -> None:
    """Given an incident that ends within its half minute, nobody hears of it."""
    world = World()
    world.put(incident("a"))
    world.live(20)
    world.end("a")
    world.live(100)

    assert world.messages == []


def test_a_flap_between_two_messages_is_not_told() -> None:
    """Given an incident that ends and begins again before its end is due, the channel is told nothing new."""
    world = World()
    world.put(incident("a"))
    world.live(60)
    world.end("a")
    world.live(60)
    world.put(incident("a"))
    world.live(1000)

    assert world.said() == [(30.0, "a.chat.1", ["a firing"])]


def test_an_end_comes_before_the_same_under_another_id() -> None:
    """Given a channel that is away when an incident ends and comes again as another one, it hears of the end first."""
    world = World(chat=Pace(), pager=Pace(group_interval=0.0, max_per_hour=None, max_parts=1))
    world.put(incident("z"))
    world.live(60)
    world.end("z")
    world.now += 420
    world.put(incident("a", world.now))
    world.plan()
    world.now += 120
    world.live(10)

    assert world.said("pager")[1:] == [(600.0, "z.pager.2", ["z resolved"]), (601.0, "a.pager.1", ["a firing"])]
    assert world.said()[1:] == [(600.0, "z.chat.2", ["z resolved", "a firing"])]


def test_what_a_channel_believes_to_fire() -> None:
    """Given what was told, what was only noted, and what is being told, a channel that is there believes that what it
    was told fires until it has heard of the end."""
    world = World()
    world.told = {
        ("told", "chat"): Notified(START),
        ("over", "chat"): Notified(START, Phase.RESOLVED, 2),
        ("noted", "chat"): Notified(START, Phase.PENDING, 0),
        ("elsewhere", "old"): Notified(START),
    }
    world.claims = [Claim("moving.chat.1", "chat", (Part("moving", Phase.FIRING, 1),), START, 7)]

    assert believed_to_fire(world.paces, world.book()) == {"told", "moving"}


def test_what_begins_again_after_its_end_was_told_is_told_again() -> None:
    """Given an incident that fires again under its id, the third message says so."""
    world = World()
    world.put(incident("a"))
    world.live(60)
    world.end("a")
    world.live(300)
    world.put(incident("a"))
    world.live(600)

    assert [(name, what) for _, name, what in world.said()] == [
        ("a.chat.1", ["a firing"]),
        ("a.chat.2", ["a resolved"]),
        ("a.chat.3", ["a firing"]),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"silenced_until": START + 500}, id="silenced"),
        pytest.param({"cause": "cause"}, id="inhibited"),
        pytest.param({"phase": Phase.PENDING}, id="pending"),
    ],
)
def test_nobody_is_told_of_what_is_hidden_until_it_is_not_any_more(changes: dict[str, Any]) -> None:
    """Given an incident that is silenced, follows from another one that was told or is not confirmed, it is told when
    that ends."""
    world = World([Route(["chat"], kinds=["worker-lost"])])
    world.told["cause", "chat"] = Notified(START)
    world.put(incident("a", **changes), incident("cause", kind="not-consuming"))
    world.live(500)
    assert world.messages == []

    world.put(incident("a"))
    world.live(100)

    assert [what for _, _, what in world.said()] == [["a firing"]]


def test_who_does_not_hear_of_the_cause_hears_of_what_follows() -> None:
    """Given tasks that are orphaned with their worker, who is told of workers alone hears of that one, and who is told
    of these tasks alone, of them."""
    routes = [Route(["team"], names=["shop.pay*"]), Route(["ops"], kinds=["worker-*", "task-*"])]
    world = World(routes, team=Pace(), ops=Pace())
    world.put(incident("a"), incident("b", kind="task-orphaned", key="shop.pay", cause="a"))
    world.live(600)

    assert world.said("team") == [(30.0, "b.team.1", ["b firing"])]
    assert world.said("ops") == [(30.0, "a.ops.1", ["a firing"])]


@pytest.mark.parametrize(
    ("silenced_after", "said"),
    [
        pytest.param(0.0, [["b firing"]], id="before it was told"),
        pytest.param(20.0, [["b firing"]], id="while it waits for others"),
        pytest.param(60.0, [["a firing"]], id="after it was told"),
    ],
)
def test_a_silence_is_about_what_it_names_alone(silenced_after: float, said: list[list[str]]) -> None:
    """Given a cause that is silenced, what follows from it is told, unless the channel knows the cause already: who was
    woken by that and silences it is not woken by what follows."""
    world = World()
    world.put(incident("a"), incident("b", kind="task-orphaned", key="shop.pay", cause="a"))
    world.live(silenced_after)
    world.put(incident("a", silenced_until=START + 9000))
    world.live(600)

    assert [what for _, _, what in world.said()] == said


@pytest.mark.parametrize(
    ("among", "told", "said"),
    [
        pytest.param(0, False, [["a firing"]], id="not refused"),
        pytest.param(1, False, [["b firing"]], id="refused by itself"),
        pytest.param(2, False, [], id="refused with another one"),
        pytest.param(1, True, [], id="its repeat is refused"),
    ],
)
def test_a_cause_that_the_channel_refuses_does_not_hide_what_follows(
    among: int, told: bool, said: list[list[str]]
) -> None:
    """Given a cause that the channel does not take by itself and was never told, it is told of what follows; if others
    may be at fault, or it knows the cause, it is not.
    """
    world = World()
    world.put(incident("a"), incident("b", kind="task-orphaned", cause="a"))
    world.told["a", "chat"] = Notified(START, Phase.FIRING, 1) if told else Notified(START, Phase.PENDING, 0)
    world.told["b", "chat"] = Notified(START, Phase.PENDING, 0)
    world.now += 31
    world.refused = {("chat", "a", Phase.FIRING): Retry(300.0, among)} if among else {}

    assert [[f"{one.incident} firing" for one in claim.parts] for claim in world.plan().messages] == said


def test_what_may_be_over_is_told_to_those_alone_who_know_of_it() -> None:
    """Given incidents that a leader cannot judge yet, nobody hears of them first, nor of one that began again; who was
    told of one is told again in time, and of its end. What was noted is not forgotten: once they are judged, the wait
    for others is over.
    """
    world = World(chat=Pace(group_interval=0.0, repeat_interval=60.0))
    world.put(incident("known"), incident("over"))
    world.live(31)
    world.end("over")
    world.live(10)
    world.put(incident("new"), incident("again"))
    world.live(5)
    world.messages.clear()
    world.held = frozenset(["known", "over", "new", "again"])
    world.put(incident("over"))
    world.live(60)
    assert [what for _, _, what in world.said()] == [["known firing"]]

    world.held = frozenset()
    world.live(2)

    assert [sorted(what) for _, _, what in world.said()[1:]] == [["again firing", "new firing", "over firing"]]


def test_what_follows_is_still_repeated_to_a_service_that_would_report_its_end() -> None:
    """Given a late queue that was told, when its cause begins, Alertmanager, which would report the queue's end, is
    still told of the queue each minute, and the other channel of the cause alone; what begins after its cause is told
    to neither.
    """
    world = World(am=NO_WAIT, chat=Pace())
    world.put(incident("q", kind="queue-late"))
    world.live(50)
    world.put(incident("c"), incident("q", kind="queue-late", cause="c"))
    world.put(incident("new", kind="task-orphaned", cause="c"))
    world.live(5 * 3600, step=10)

    posted = {at for at, _, what in world.said("am") if "q firing" in what}
    assert posted == {60.0 * number for number in range(len(posted))}
    assert len(posted) == 301
    assert [what for _, _, what in world.said()] == [["q firing"], ["c firing"], ["c firing"]]
    assert not any("new firing" in what for channel in ("am", "chat") for _, _, what in world.said(channel))


def test_an_end_is_told_although_it_is_silenced_by_then() -> None:
    """Given an incident that was told and silenced then, those who were woken hear that it is over."""
    world = World()
    world.put(incident("a"))
    world.live(60)
    world.put(incident("a", phase=Phase.RESOLVED, changed=world.now, silenced_until=START + 9000))
    world.live(600)

    assert [what for _, _, what in world.said()] == [["a firing"], ["a resolved"]]


def test_no_channel_gets_more_than_twenty_messages_in_any_hour_and_nothing_is_left_out() -> None:
    """Given a new kind of incident every half minute for an hour, no hour has more than twenty messages, the
    twentieth is a digest, and each incident is told in the end."""
    world = World()
    for number in range(120):
        world.put(incident(f"i{number:03}", world.now, kind=f"kind-{number}"))
        world.live(30, step=15)
    world.live(2 * 3600, step=60)

    times = [at for at, *_ in world.said()]
    assert max(sum(1 for at in times if start < at <= start + 3600) for start in times) <= MAX_PER_HOUR
    assert [claim.is_digest for _, claim in world.messages[:20]] == [False] * 19 + [True]
    assert (world.messages[20][1].is_digest, len(world.messages[20][1].parts)) == (True, MAX_PARTS)
    assert {part.incident for _, claim in world.messages for part in claim.parts} == set(world.incidents)


def test_a_message_is_bounded_and_the_rest_follows() -> None:
    """Given more incidents of a kind than a message has room for, the others are in the next."""
    world = World()
    world.put(*(incident(f"i{number:03}") for number in range(MAX_PARTS + 10)))
    world.live(400)

    assert [len(claim.parts) for _, claim in world.messages] == [MAX_PARTS, 10]


def test_what_is_told_first_does_not_wait_for_what_is_told_again() -> None:
    """Given a channel with one incident in each message, one that is new is told before those that are told again: they
    wait since that is due, not since they were told."""
    world = World(pager=Pace(group_interval=0.0, max_per_hour=None, max_parts=1))
    world.put(incident("a"), incident("b"), incident("c"))
    world.live(4 * 3600)
    world.put(incident("new", world.now))
    world.live(60)

    assert world.said("pager") == [
        *((30.0, "a.pager.1", ["a firing"]), (31.0, "b.pager.1", ["b firing"]), (32.0, "c.pager.1", ["c firing"])),
        (14430.0, "new.pager.1", ["new firing"]),
        *(
            (14431.0, "a.pager.2", ["a firing"]),
            (14432.0, "b.pager.2", ["b firing"]),
            (14433.0, "c.pager.2", ["c firing"]),
        ),
    ]


def test_a_service_that_groups_by_itself_is_told_at_once_and_again_and_again() -> None:
    """Given Alertmanager, an incident is posted at once and each minute, and its end so as well, for a while: one that
    is started anew has forgotten both."""
    world = World(am=NO_WAIT)
    world.put(incident("a"))
    world.live(150)
    world.end("a")
    world.live(300)

    assert [(at, what) for at, _, what in world.said("am")] == [
        (0.0, ["a firing"]),
        (60.0, ["a firing"]),
        (120.0, ["a firing"]),
        (150.0, ["a resolved"]),
        (210.0, ["a resolved"]),
    ]


def test_pages_come_before_warnings() -> None:
    """Given two incidents that wait as long, the one that wakes somebody is told first."""
    world = World()
    world.put(incident("w", severity=Severity.WARN, kind="events-lost"), incident("z"))
    world.live(60)

    assert [what for _, _, what in world.said()] == [["z firing"], ["w firing"]]


def test_nothing_is_planned_for_a_channel_with_a_message_under_way() -> None:
    """Given a message that nobody has confirmed, no other one is begun for its channel; others go on."""
    world = World(chat=Pace(), mail=Pace())
    world.claims = [Claim("x.chat.1", "chat", (Part("x", Phase.FIRING, 1),), START, 7)]
    world.put(incident("a"))
    world.live(60)

    assert world.said() == []
    assert world.said("mail") == [(30.0, "a.mail.1", ["a firing"])]


def test_every_leader_plans_the_same_under_the_same_ids() -> None:
    """Given two instances that read the same store, they plan the same messages, whoever looks first."""
    world = World()
    world.put(incident("b"), incident("a"))
    world.plan()
    world.now += 31
    one = plan(list(world.incidents.values()), [], world.paces, world.book(), token=1)
    other = plan(list(world.incidents.values())[::-1], [], world.paces, world.book(), token=2)

    assert [claim.id for claim in one.messages] == [claim.id for claim in other.messages] == ["a.chat.1"]
    assert one.messages[0].parts == other.messages[0].parts


def test_a_clock_that_was_put_back_keeps_nobody_waiting() -> None:
    """Given times in the store that are a day ahead, an incident is told all the same, and so is its end."""
    world = World()
    world.put(incident("a"))
    world.live(60)
    world.now -= 86400
    world.put(incident("b", world.now, kind="queue-late"))
    world.end("a")
    world.live(400)

    assert [what for _, _, what in world.said()][1:] == [["a resolved"], ["b firing"]]


def test_what_is_over_is_forgotten() -> None:
    """Given an incident or a channel that is gone, nothing is kept of it, unless a message about it is under way."""
    world = World()
    world.told = {
        ("gone", "chat"): Notified(START),
        ("a", "old"): Notified(START),
        ("moving", "chat"): Notified(START),
        ("a", "chat"): Notified(START),
    }
    world.claims = [Claim("moving.chat.2", "chat", (Part("moving", Phase.RESOLVED, 2),), START, 7)]
    world.put(incident("a"))

    assert sorted(world.plan().forgotten) == [("a", "old"), ("gone", "chat")]


ROUTES = [
    pytest.param([], ["chat", "pager"], id="no route"),
    pytest.param([Route(["pager"], severity="page")], ["pager"], id="severity"),
    pytest.param([Route(["pager"], severity="warn")], [], id="another severity"),
    pytest.param([Route(["chat"], kinds=["queue-*", "worker-*"])], ["chat"], id="kind"),
    pytest.param([Route(["chat"], names=["celery@a"])], ["chat"], id="key"),
    pytest.param([Route(["chat"], names=["shop.*"])], ["chat"], id="name of a task"),
    pytest.param([Route(["chat"], names=["*@with-a"])], ["chat"], id="one of several"),
    pytest.param([Route(["chat"], names=["*@b"])], [], id="another name"),
    pytest.param([Route(["chat"], severity="page", kinds=["queue-late"])], [], id="all of its keys"),
    pytest.param([Route(["chat"]), Route(["pager"], severity="page")], ["chat", "pager"], id="several"),
]


@pytest.mark.parametrize(("routes", "channels"), ROUTES)
def test_routes_say_who_is_told_of_what(routes: list[Route], channels: list[str]) -> None:
    """Given routes by severity, kind and name, an incident goes to the channels of those that fit."""
    one = incident("a", facts={"name": "shop.pay"}, members=("celery@a", "celery@with-a"))

    assert channels_for(one, routes, ["chat", "pager"]) == channels


@pytest.mark.parametrize(
    ("route", "said"),
    [
        pytest.param(
            Route(["chat"], kinds=["queue-*", "worker_lost"]), "fits worker_lost, did you mean worker-lost?",
            id="mistyped",
        ),
        pytest.param(
            Route(["chat"], severity="page", kinds=["error-*"]), "of severity page fits error-*; known are "
            + ", ".join(one.name for one in CATALOGUE if one.severity is Severity.PAGE),
            id="another severity",
        ),
        pytest.param(
            Route(["chat"], kinds=["\n"]), "fits \\n; known are " + ", ".join(one.name for one in CATALOGUE),
            id="in one line",
        ),
    ],
)  # fmt: skip
def test_a_kind_that_there_is_not_is_said_at_the_start(route: Route, said: str) -> None:
    """Given a pattern that no kind fits, so that nobody would be told, the error says which, and what there is."""
    with pytest.raises(ConfigurationError) as raised:
        require_kinds([Route(["chat"]), route])

    assert str(raised.value) == f"notify.routes[1].kinds: no kind of incident {said}"


def test_each_kind_can_be_routed() -> None:
    """Given a route for each kind by its name and severity, and one for all, they are taken."""
    each = [{"channels": ["chat"], "severity": one.severity, "kinds": [one.name]} for one in CATALOGUE]

    require_kinds(msgspec.convert([{"channels": ["chat"], "kinds": ["*"]}, *each], list[Route]))


def test_a_route_and_a_silence_read_a_pattern_alike() -> None:
    """Given a queue with brackets in its name, a route that names it fits it, as a silence does; `*` alone stands for
    other text."""
    late = incident("a", key="shop[1]")
    patterns = {"shop[1]": True, "shop[*": True, "*[?]": False, "shop1": False, "shop[2]": False}

    assert {one: bool(channels_for(late, [Route(["chat"], names=[one])], ["chat"])) for one in patterns} == patterns
    assert {one: Silence("", late.kind, one, START, START).covers(late) for one in patterns} == patterns


def test_routes_know_each_severity() -> None:
    """Given the severities of incidents, the configuration takes each of them, and no other."""
    assert set(get_args(get_type_hints(Route)["severity"])) == {"", *Severity}


def test_what_a_channel_was_told_is_there_for_people() -> None:
    """Given what is kept, people see who was told of an incident, and not who is yet to be."""
    told = {
        ("a", "chat"): Notified(START),
        ("a", "mail"): Notified(START, Phase.PENDING, 0),
        ("b", "chat"): Notified(START),
    }
    kept = {field_of(*key).encode(): entry_of(one) for key, one in told.items()}

    assert notified_by_channel(read_notified({**kept, b"broken": b"{", b"a\x1fx": b"[]"}), "a") == {
        "chat": Notified(START)
    }
