"""The leader's duty to tell the channels: claimed, delivered, told; with a store in memory and a clock that the test
turns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from ha_monitor.config.notify import Alertmanager, Notify, PagerDuty, Secrets
from ha_monitor.config.schema import Config, StoreSettings
from ha_monitor.errors import StoreUnavailable
from ha_monitor.notify import http
from ha_monitor.notify.channel import DELIVERY_TIMEOUT, Deadline, LoginRefused, NotDelivered, Refused, TryAgain
from ha_monitor.notify.channels import alertmanager, pace_of, pagerduty
from ha_monitor.notify.message import Message, Notice
from ha_monitor.notify.plan import GROUP_INTERVAL, GROUP_WAIT, Pace
from ha_monitor.pipeline.channel_sender import REFUSED_BACKOFF, SLOW_AFTER
from ha_monitor.pipeline.notifications import CLAIM_TIMEOUT, NotificationsDuty, Recipient
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.incidents import Incident, Phase, Severity
from ha_monitor.store.memory.record import memory_record
from ha_monitor.store.memory.server import MemoryServer
from tests.support.machine import patient
from tests.support.process import wait_until
from tests.support.threads import plain_threads
from tests.unit.builders import TurnedClock
from tests.unit.test_notify_plan import START, incident
from tests.unit.test_store_link import Nothing

NOW = Pace(group_wait=0.0)
PACE_OF_ONE = pace_of(PagerDuty())._replace(group_wait=0.0)  # type: ignore[union-attr]


class Receiver:
    """A channel that keeps what it is given, after it did as it was told."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self.first = first
        self.got: list[tuple[str, list[str]]] = []
        self.times: list[float] = []
        self.calls = 0

    def deliver(self, message: Message, _deadline: Deadline) -> str:
        self.calls += 1
        self.first()
        self.times.append(message.at)
        self.got.append((message.id, [f"{one.incident.id} {one.phase.value}" for one in message.notices]))
        return ""

    def probe(self, _deadline: Deadline) -> str:
        return ""


class SlowPagerDuty(Receiver, pagerduty.PagerDutyChannel):
    """Each of its requests takes a quarter of what a delivery may take, and some more."""

    def __init__(self, clock: TurnedClock, patch: pytest.MonkeyPatch) -> None:
        Receiver.__init__(self)
        pagerduty.PagerDutyChannel.__init__(self, PagerDuty(), Secrets(key="k" * 32))
        self.clock = clock
        self.events: list[tuple[str, str]] = []
        patch.setattr(pagerduty, "request", self._request)

    def deliver(self, message: Message, deadline: Deadline) -> str:
        return pagerduty.PagerDutyChannel.deliver(self, message, deadline)

    def _request(self, _method: str, _url: str, deadline: Deadline, *, body: bytes) -> None:
        self.clock.now += DELIVERY_TIMEOUT / 4 + 0.1
        deadline.left("no answer", maybe_taken=True)
        event = msgspec.json.decode(body)
        self.events.append((event["event_action"], event["dedup_key"]))


class Known:
    """The incidents."""

    def __init__(self, *incidents: Incident) -> None:
        self.all: list[Incident] | None = list(incidents)
        self.held: frozenset[str] = frozenset()

    def incidents(self) -> list[Incident] | None:
        return self.all

    def unjudged(self) -> frozenset[str]:
        return self.held


class Bed:
    """Two instances that share a store, incidents and receivers."""

    def __init__(self, **receivers: Receiver) -> None:
        self.clock = TurnedClock()
        self.server = MemoryServer(self.clock)
        self.known = Known()
        self.receivers = receivers
        self.logs = {"1": Nothing(), "2": Nothing()}
        self.records = {name: memory_record(self.server, Config(store=StoreSettings(lease=5.0))) for name in "12"}
        self.stats = Stats()
        self.duties = {name: self.duty(name) for name in "12"}
        for name, record in self.records.items():
            record.store.dial().use()
            record.store.register({"instance": name})
        self.tick("1")

    def duty(self, name: str, pace: Pace | None = NOW, clock: TurnedClock | None = None) -> NotificationsDuty:
        record: Any = self.records[name]
        return NotificationsDuty(
            self.known,
            record.deliveries,
            {channel: Recipient(one, pace, 60.0) for channel, one in self.receivers.items()},
            Notify(),
            node_id="shop",
            store=record.store,
            stats=self.stats,
            logger=self.logs[name],
            clock=clock or self.clock,
            threads=plain_threads(self.clock),
        )

    def tick(self, name: str, *, eligible: bool = True) -> None:
        self.records[name].store.tick(b"{}", [], eligible=eligible, watermark_age=0.0, requeued=False)

    def follow(self) -> None:
        """The second instance leads from now on."""
        self.tick("1", eligible=False)
        self.tick("2")

    def go(self, name: str = "1", seconds: float = 1.0) -> None:
        """Let time pass, and the duty look; deliveries that it begins have ended then, those that hang apart."""
        self.clock.now += seconds
        for one in "12":
            self.tick(one, eligible=one == name)
        self.duties[name].run()

    def settled(self, name: str = "1") -> None:
        """Until no delivery is under way, nor one that is begun by then: the time that passes next may be more than a
        lease, without which a thread that had no core until then would send nothing."""
        self._wait(name)
        self.go(name)
        self._wait(name)

    def _wait(self, name: str) -> None:
        under_way = [one._call for one in self.duties[name]._senders.values() if one._call is not None]
        assert not wait(under_way, patient(30)).not_done

    def reasons(self, name: str = "1") -> list[str]:
        return [str(fields["reason"]) for event, fields in self.logs[name].told if event == "notification-failed"]


def fails(error: Exception, times: int = 1) -> Callable[[], object]:
    left = [error] * times

    def fail() -> None:
        if left:
            raise left.pop()

    return fail


def test_what_a_leader_has_not_judged_yet_is_told_once_it_has() -> None:
    """Given an incident that a leader has only found, the channel hears of it when it was judged."""
    bed = Bed(chat=Receiver())
    bed.known.all, bed.known.held = [incident("a")], frozenset(["a"])
    for _ in range(5):
        bed.go(seconds=10)
        bed.settled()
    assert bed.receivers["chat"].got == []

    bed.known.held = frozenset()
    bed.go()
    bed.settled()

    assert bed.receivers["chat"].got == [("a.chat.1", ["a firing"])]


def test_a_message_is_claimed_delivered_and_told() -> None:
    """Given an incident that fires and ends, the channel gets both messages once; the store says so, and so do a line
    each and a metric."""
    bed = Bed(chat=Receiver())
    bed.known.all = [incident("a")]
    bed.go()
    bed.settled()
    bed.known.all = [incident("a", phase=Phase.RESOLVED)]
    for _ in range(5):
        bed.go(seconds=100)
        bed.settled()

    assert bed.receivers["chat"].got == [("a.chat.1", ["a firing"]), ("a.chat.2", ["a resolved"])]
    assert bed.server.messages.claims == {}
    assert [event for event, _ in bed.logs["1"].told] == ["notification-sent"] * 2
    assert (bed.stats.notifications, bed.stats.notification_failures) == (2, 0)


def test_a_message_is_of_the_time_by_which_its_incidents_are() -> None:
    """Given a leader whose clock is seven minutes behind the store's, its message has the store's time: what is said of
    an incident's age is right, and Alertmanager gets no alert that is over before it begins."""
    bed = Bed(chat=Receiver())
    bed.known.all = [incident("a")]
    behind = TurnedClock(bed.clock.now)
    behind.put_back = 420.0
    bed.duties["1"] = bed.duty("1", clock=behind)
    bed.go()
    wait_until(lambda: bed.receivers["chat"].got != [], 30, "the delivery", 0.005)

    assert bed.receivers["chat"].times == [bed.clock.time()]


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        pytest.param(TryAgain("away"), 1.0, id="not taken"),
        pytest.param(TryAgain("no answer", maybe_taken=True), 1.0, id="perhaps taken"),
        pytest.param(Refused("no"), REFUSED_BACKOFF, id="refused"),
        pytest.param(ValueError("a bug"), 1.0, id="unforeseen"),
    ],
)
def test_what_fails_is_made_again_under_the_same_id(error: Exception, pause: float) -> None:
    """Given a channel that fails once, the message is made again after a pause, under its id, and told of in one
    line."""
    bed = Bed(chat=Receiver(fails(error)))
    bed.known.all = [incident("a")]
    bed.go()
    bed.settled()
    assert bed.receivers["chat"].calls == 1
    assert bed.duties["1"].failing == ["chat"]
    bed.go(seconds=pause)
    bed.go()
    bed.settled()

    assert bed.receivers["chat"].got == [("a.chat.1", ["a firing"])]
    assert len(bed.reasons()) == 1
    assert bed.duties["1"].failing == []
    assert (bed.stats.notifications, bed.stats.notification_failures) == (1, 1)


def test_the_next_leader_retries_what_was_in_flight_under_the_same_id() -> None:
    """Given a leader that dies after a delivery and before it could say so, the next one waits until the delivery must
    have ended, and makes it again under the same id; that is all that there is."""
    bed = Bed(chat=Receiver())
    bed.known.all = [incident("a")]
    bed.go()
    wait_until(lambda: bed.receivers["chat"].got != [], 30, "the delivery", 0.005)
    bed.follow()
    bed.go("2")
    assert len(bed.receivers["chat"].got) == 1
    for _ in range(20):
        bed.go("2", CLAIM_TIMEOUT / 10)
        bed.settled("2")

    assert bed.receivers["chat"].got == [("a.chat.1", ["a firing"])] * 2
    assert bed.server.messages.claims == {}


def test_a_leader_that_has_not_looked_yet_gives_nothing_up() -> None:
    """Given a new leader that does not know the incidents yet, the message that the last one left waits, and is made
    again once they are known."""
    bed = Bed(chat=Receiver())
    bed.known.all = [incident("a")]
    bed.go()
    wait_until(lambda: bed.receivers["chat"].got != [], 30, "the delivery", 0.005)
    bed.known.all = None
    bed.follow()
    bed.go("2", CLAIM_TIMEOUT)
    bed.go("2")
    assert list(bed.server.messages.claims) == [b"a.chat.1"]
    bed.known.all = [incident("a")]
    bed.go("2")
    bed.settled("2")

    assert bed.receivers["chat"].got == [("a.chat.1", ["a firing"])] * 2


@pytest.mark.parametrize(
    "error", [TryAgain("away"), LoginRefused("401"), Refused("no")], ids=["away", "login", "message"]
)
def test_a_leader_that_returns_does_not_know_a_channel_as_failing_that_another_one_reached(error: Exception) -> None:
    """Given a leader whose channel failed, and one after it that reached the channel; when the first leads again, it
    takes the channel for one that works, and tries it at once.
    """
    chat = Receiver(fails(error))
    bed = Bed(chat=chat)
    bed.known.all = [incident("a")]
    bed.go()
    bed.settled()
    assert bed.duties["1"].failing == ["chat"]
    bed.follow()
    for _ in range(3):
        bed.go("2")
        bed.settled("2")
    assert [what for _, what in chat.got] == [["a firing"]]
    bed.known.all = [incident("a"), incident("q", kind="queue-late")]

    bed.duties["1"].start_anew()
    assert bed.duties["1"].failing == []
    for _ in range(3):
        bed.go()
    bed.settled()
    assert [what for _, what in chat.got] == [["a firing"], ["q firing"]]


def test_a_leader_that_is_followed_before_it_delivers_delivers_nothing() -> None:
    """Given an instance whose lease has ended when its thread begins, it leaves the message to the next leader."""
    bed = Bed(chat=Receiver())
    bed.known.all = [incident("a")]
    holding = [True]
    bed.duties["1"]._senders["chat"]._lease = type("L", (), {"holds_lease": lambda _: holding[0]})()
    holding[0] = False
    bed.go()
    bed.settled()

    assert bed.receivers["chat"].calls == 0
    assert list(bed.server.messages.claims) == [b"a.chat.1"]


def test_a_service_that_takes_one_incident_at_a_time_hears_of_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more incidents at once than PagerDuty takes within the time of a delivery, it hears of each, and of each
    end, once, and nothing fails: what it has taken counts, so that the others have their turn."""
    names = [f"i{number:02}" for number in range(12)]
    bed = Bed()
    service = bed.receivers["pager"] = SlowPagerDuty(bed.clock, monkeypatch)
    bed.duties["1"] = bed.duty("1", pace_of(PagerDuty()))
    bed.known.all = [incident(name) for name in names]
    bed.go()
    bed.go(seconds=GROUP_WAIT)
    for _ in names:
        bed.settled()
    bed.known.all = [incident(name, phase=Phase.RESOLVED) for name in names]
    for _ in names:
        bed.go()
        bed.settled()

    assert service.events == [("trigger", name) for name in names] + [("resolve", name) for name in names]
    assert (bed.stats.notifications, bed.stats.notification_failures) == (24, 0)
    assert bed.server.messages.claims == {}


class Choosy(Receiver):
    """A service that takes one incident at a time, and refuses the messages about some."""

    def __init__(self, *refused: str, takes_none: bool = False) -> None:
        super().__init__()
        self.refused = set(refused)
        self.takes_none = takes_none
        self.asked: list[str] = []

    def deliver(self, message: Message, deadline: Deadline) -> str:
        name = message.notices[0].incident.id
        self.asked.append(name)
        if self.takes_none or name in self.refused:
            raise Refused(f"it answers 400: {name}")
        return super().deliver(message, deadline)


def test_an_event_that_is_refused_does_not_keep_others_from_being_sent() -> None:
    """Given a service that refuses the events of the first incidents, when others are due, then those are sent soon;
    the refused ones are tried again after their pause, and only then, until they are taken; each is taken once."""
    service = Choosy("a", "b")
    bed = Bed(pager=service)
    bed.duties["1"] = bed.duty("1", PACE_OF_ONE)
    bed.known.all = [incident(name) for name in "abcde"]
    for _ in range(30):
        bed.go()
        bed.settled()

    assert service.asked == ["a", "b", "c", "d", "e"]
    assert bed.duties["1"].failing == ["pager"]
    service.refused.clear()
    bed.known.all.append(incident("f", START + 60))
    for _ in range(5):
        bed.go()
        bed.settled()
    assert service.asked == ["a", "b", "c", "d", "e", "f"]
    bed.go(seconds=REFUSED_BACKOFF)
    for _ in range(5):
        bed.settled()
        bed.go()

    assert service.asked == ["a", "b", "c", "d", "e", "f", "a", "b"]
    assert sorted(name for name, _ in service.got) == [f"{name}.pager.1" for name in "abcdef"]
    assert bed.duties["1"].failing == []


def test_several_refused_events_do_not_slow_down_those_that_are_taken() -> None:
    """Given a service that refuses the events of every other incident, when all are due, then each is asked about once,
    within seconds: only refusals without anything taken in between make the pause grow."""
    service = Choosy(*"acegik")
    bed = Bed(pager=service)
    bed.duties["1"] = bed.duty("1", PACE_OF_ONE)
    bed.known.all = [incident(name) for name in "abcdefghijkl"]
    for _ in range(15):
        bed.go()
        bed.settled()

    assert service.asked == list("abcdefghijkl")


def test_what_was_refused_is_tried_again_after_everything_else() -> None:
    """Given incidents of which one was refused, and its pause is over, when a new one is due at the same time, then the
    new one is sent first."""
    service = Choosy("a")
    bed = Bed(pager=service)
    bed.duties["1"] = bed.duty("1", PACE_OF_ONE)
    bed.known.all = [incident("a")]
    bed.go()
    bed.settled()
    bed.known.all.append(incident("b", START + REFUSED_BACKOFF))
    bed.go(seconds=REFUSED_BACKOFF)
    for _ in range(3):
        bed.settled()
        bed.go()

    assert service.asked == ["a", "b", "a"]


@pytest.mark.parametrize("bad", ["a", "acegi"])
def test_what_is_refused_again_and_again_does_not_delay_what_is_new(bad: str) -> None:
    """Given incidents whose events the service has refused every ten minutes for two hours, and nothing else, when a
    page begins right after such a refusal, then it is sent within seconds, and so are two more after that.
    """
    service = Choosy(*bad)
    bed = Bed(pager=service)
    bed.duties["1"] = bed.duty("1", PACE_OF_ONE)
    bed.known.all = [incident(name) for name in bad]
    for _ in range(12):
        bed.go(seconds=REFUSED_BACKOFF)
        bed.settled()
    until = len(service.asked)
    while len(service.asked) == until:
        bed.go(seconds=30)
        bed.settled()
    service.asked.clear()
    bed.known.all.append(incident("x", bed.clock.time()))
    for _ in range(3):
        bed.go()
        bed.settled()
    bed.known.all += [incident(name, bed.clock.time()) for name in "yz"]
    for _ in range(3):
        bed.go()
        bed.settled()

    assert [name for name in service.asked if name not in bad] == ["x", "y", "z"]


def test_each_of_those_that_are_refused_has_its_turn() -> None:
    """Given five incidents whose events the service refuses for two hours, when it accepts the last one's from then on,
    then that is sent within an hour: the others do not come before it each time.
    """
    service = Choosy(*"abcde")
    bed = Bed(pager=service)
    bed.duties["1"] = bed.duty("1", PACE_OF_ONE)
    bed.known.all = [incident(name) for name in "abcde"]
    for _ in range(120):
        bed.go(seconds=60)
        bed.settled()
    service.refused.discard("e")
    for _ in range(60):
        bed.go(seconds=60)
        bed.settled()

    assert service.got == [("e.pager.1", ["e firing"])]


@pytest.mark.thorough
def test_a_service_that_refuses_everything_is_asked_less_and_less() -> None:
    """Given a wrong key, with which the service refuses every event, when many incidents are due for an hour, then it
    is asked a few times, not once a second; the end of an incident is not tried, since its beginning was not taken."""
    service = Choosy(takes_none=True)
    bed = Bed(pager=service)
    bed.duties["1"] = bed.duty("1", PACE_OF_ONE)
    bed.known.all = [incident(f"i{number:02}") for number in range(50)]
    for _ in range(360):
        bed.go(seconds=9.0)
        bed.settled()

    assert 10 <= len(service.asked) <= 25
    assert service.asked == sorted(set(service.asked))
    bed.known.all = [incident(f"i{number:02}", phase=Phase.RESOLVED) for number in range(50)]
    asked = len(service.asked)
    for _ in range(10):
        bed.go(seconds=2 * REFUSED_BACKOFF)
        bed.settled()
    assert len(service.asked) == asked


class Picky(Receiver):
    """Takes several incidents in one message, and refuses each message that is about certain ones."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused = set(refused)
        self.asked: list[str] = []

    def deliver(self, message: Message, deadline: Deadline) -> str:
        names = [one.incident.id for one in message.notices]
        self.asked.append("".join(names))
        if self.refused.intersection(names):
            raise Refused("it answers 554: looks like spam")
        return super().deliver(message, deadline)


class Remarks(Receiver):
    """Takes each message, and something goes wrong nevertheless."""

    def deliver(self, message: Message, deadline: Deadline) -> str:
        super().deliver(message, deadline)
        return "http://b:1: no answer in time"


def test_a_message_that_is_always_refused_does_not_hold_back_what_becomes_due() -> None:
    """Given a page that the channel refuses each time, when one of another kind becomes due, then it is sent within
    seconds, and the refused one is tried again every ten minutes, by itself.
    """
    service = Picky("a")
    bed = Bed(chat=service)
    bed.known.all = [incident("a")]
    for _ in range(5):
        bed.go()
        bed.settled()
    bed.known.all.append(incident("q", START + 5, kind="queue-late"))
    for _ in range(5):
        bed.go()
        bed.settled()
    assert service.asked == ["a", "q"]
    for _ in range(2):
        bed.go(seconds=REFUSED_BACKOFF)
        bed.settled()

    assert service.asked == ["a", "q", "a", "a"]
    assert service.got == [("q.chat.1", ["q firing"])]


class Faulty(Picky):
    """Has a bug: it fails on each message about certain incidents."""

    def deliver(self, message: Message, deadline: Deadline) -> str:
        try:
            return super().deliver(message, deadline)
        except Refused:
            raise TryAgain("it answers 500", is_answer=True) from None


@pytest.mark.parametrize("pace", [NOW, PACE_OF_ONE])
def test_messages_on_which_a_service_fails_each_time_do_not_hold_back_others(pace: Pace) -> None:
    """Given a service that fails on the messages about two pages each time, when others of another kind become due, a
    warning among them, then they are sent at the next attempts; once it does not fail any more, so are the first ones.
    """
    service = Faulty("a", "b")
    bed = Bed(chat=service)
    bed.duties["1"] = bed.duty("1", pace)
    bed.known.all = [incident("a"), incident("b", kind="no-consumer")]
    for _ in range(10):
        bed.go()
        bed.settled()
    bed.known.all.append(incident("q", START + 9, kind="queue-late"))
    bed.known.all.append(incident("w", START + 9, kind="events-lost", severity=Severity.WARN))
    for _ in range(5):
        bed.go(seconds=300)
        bed.settled()
    assert service.got == [("q.chat.1", ["q firing"]), ("w.chat.1", ["w firing"])]

    service.refused.clear()
    for _ in range(3):
        bed.go(seconds=300)
        bed.settled()
    assert sorted(service.got[2:]) == [("a.chat.1", ["a firing"]), ("b.chat.1", ["b firing"])]


@pytest.mark.parametrize("bad", ["a", "d", "h", "be"])
def test_what_was_refused_together_is_sent_but_for_what_is_refused_by_itself(bad: str) -> None:
    """Given eight incidents of one kind, some of which the channel refuses, when they are due in one message, then all
    others are sent within a minute, in few messages, and those alone are tried again after ten minutes; what is
    accepted then is sent.
    """
    service = Picky(*bad)
    bed = Bed(chat=service)
    bed.duties["1"] = bed.duty("1", NOW._replace(group_interval=0.0))
    bed.known.all = [incident(name) for name in "abcdefgh"]
    for _ in range(60):
        bed.go(seconds=0.5)
        bed.settled()

    told = sorted(what for _, found in service.got for what in found)
    assert told == [f"{name} firing" for name in "abcdefgh" if name not in bad]
    assert len(service.got) <= 4
    assert bed.duties["1"].failing == ["chat"]
    service.refused.clear()
    service.asked.clear()
    bed.go(seconds=REFUSED_BACKOFF)
    for _ in range(3):
        bed.settled()
        bed.go()
    assert service.asked == list(bad)
    assert bed.duties["1"].failing == []


@pytest.mark.thorough
def test_a_channel_that_refused_everything_gets_the_rest_together_when_it_takes_messages_again() -> None:
    """Given a channel that refuses all messages for two days, so that each incident was refused by itself, when it
    takes one of them, then it gets the others in one message; meanwhile it was asked every few minutes at most.
    """
    names = "abcdefgh"
    service = Picky(*names)
    bed = Bed(chat=service)
    bed.duties["1"] = bed.duty("1", NOW._replace(group_interval=0.0))
    bed.known.all = [incident(name) for name in names]
    for _ in range(48 * 60):
        bed.go(seconds=60)
        bed.settled()
    assert set(names) < set(service.asked)
    assert len(service.asked) < 48 * 12

    service.refused.clear()
    service.asked.clear()
    for _ in range(20):
        bed.go(seconds=60)
        bed.settled()
    assert [len(asked) for asked in service.asked] == [1, 7]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"silenced_until": float("inf")}, id="silenced"),
        pytest.param({"cause": "c"}, id="follows"),
        pytest.param({"phase": Phase.RESOLVED}, id="over"),
    ],
)
def test_a_channel_fails_only_while_what_it_refused_is_due(changes: dict[str, Any]) -> None:
    """Given a channel that refuses one message and takes others, it is failing; when the refused incident is silenced,
    follows from one that the channel knows, or is over, it is not any more.
    """
    bed = Bed(chat=Picky("a"))
    bed.known.all = [incident("a"), incident("c", kind="queue-late")]
    for _ in range(4):
        bed.go()
        bed.settled()
    assert bed.receivers["chat"].got == [("c.chat.1", ["c firing"])]
    assert bed.duties["1"].failing == ["chat"]
    bed.known.all[0] = incident("a", **changes)
    bed.go()

    assert bed.duties["1"].failing == []


def test_a_channel_that_refused_its_last_message_does_not_fail_once_nothing_is_due() -> None:
    """Given a channel that refused the only message that was due, when its incident is silenced, the channel is not
    failing, although it took nothing since; a heartbeat that is refused fails until it is taken.
    """
    bed = Bed(chat=Picky("a"))
    bed.known.all = [incident("a")]
    bed.go()
    bed.settled()
    assert bed.duties["1"].failing == ["chat"]
    bed.known.all = [incident("a", silenced_until=float("inf"))]
    bed.go()
    assert bed.duties["1"].failing == []

    bed = Bed(beat=Receiver(fails(Refused("it answers 404"))))
    bed.duties["1"] = bed.duty("1", None)
    bed.go()
    bed.settled()
    assert bed.duties["1"].failing == ["beat"]
    bed.go(seconds=60)
    bed.settled()
    assert bed.duties["1"].failing == []


def test_a_channel_that_takes_messages_with_a_remark_does_not_fail() -> None:
    """Given a cluster of which one member is away, the incidents are delivered, one line says which is away, and the
    channel is not failing.
    """
    bed = Bed(am=Remarks())
    bed.duties["1"] = bed.duty("1", pace_of(Alertmanager(urls=["http://a:1", "http://b:1"])))
    bed.known.all = [incident("a")]
    for _ in range(5):
        bed.go(seconds=60)
        bed.settled()

    assert len(bed.receivers["am"].got) == 5
    assert bed.reasons() == ["http://b:1: no answer in time"]
    assert bed.duties["1"].failing == []


def test_what_was_refused_leaves_the_last_message_of_an_hour_to_others() -> None:
    """Given a channel that may get two messages an hour, when what it refused is due after one, then it waits, and a
    new page is sent at once.
    """
    service = Picky("a")
    bed = Bed(chat=service)
    bed.duties["1"] = bed.duty("1", NOW._replace(max_per_hour=2))
    bed.known.all = [incident("a"), incident("q", kind="queue-late")]
    for _ in range(3):
        bed.go()
        bed.settled()
    assert service.asked == ["a", "q"]
    service.refused.clear()
    bed.go(seconds=REFUSED_BACKOFF)
    bed.settled()
    bed.known.all.append(incident("n", bed.clock.time(), kind="no-consumer"))
    bed.go()
    bed.settled()

    assert service.asked == ["a", "q", "n"]


def test_credentials_that_are_refused_are_not_tried_with_each_message() -> None:
    """Given a service that refuses the password, when several kinds of incidents are due, then it is asked once in ten
    minutes: it may lock the account.
    """
    bed = Bed(chat=Receiver(fails(LoginRefused("it answers 535"), times=3)))
    bed.known.all = [incident(name, kind=f"kind-{name}") for name in "abcde"]
    for _ in range(25):
        bed.go(seconds=60)
        bed.settled()

    assert bed.receivers["chat"].calls == 3


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Refused("it answers 403"), id="refused"),
        pytest.param(LoginRefused("it answers 401"), id="login"),
        pytest.param(TryAgain("it is away"), id="away"),
    ],
)
def test_alertmanager_is_told_again_before_it_reports_the_end(error: Exception) -> None:
    """Given an Alertmanager with ten alerts that does not take messages for twenty minutes, then it is asked at least
    once a minute, so that no alert expires after a short failure; when it takes messages again, all are posted within a
    minute and seconds.
    """
    bed = Bed()
    begins = bed.clock.now + 30
    ends = begins + 1200
    asked: list[float] = []

    def fail() -> None:
        asked.append(bed.clock.now)
        if begins <= bed.clock.now < ends:
            raise error

    receiver = bed.receivers["am"] = Receiver(fail)
    bed.duties["1"] = bed.duty("1", pace_of(Alertmanager(urls=["http://a:1"])))
    bed.known.all = [incident(name) for name in "abcdefghij"]
    bed.go()
    bed.settled()
    assert [len(what) for _, what in receiver.got] == [10]
    receiver.got.clear()
    while bed.clock.now < ends + 70:
        bed.go()
        bed.settled()

    assert max(later - earlier for earlier, later in pairwise(asked)) <= 65
    assert {what for _, found in receiver.got for what in found} == {f"{name} firing" for name in "abcdefghij"}


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        pytest.param([Refused("no"), TryAgain("away")], TryAgain, id="away after a refusal"),
        pytest.param([TryAgain("away"), Refused("no")], TryAgain, id="away before a refusal"),
        pytest.param([LoginRefused("no"), Refused("no")], Refused, id="refused after a login"),
    ],
)
def test_a_cluster_is_asked_again_as_the_member_that_may_take_it_soonest(
    errors: list[NotDelivered], kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given members that all fail, the failure counts after which another attempt is the most promising."""
    left = list(errors)

    def fail(*_: object, **__: object) -> None:
        raise left.pop(0)

    monkeypatch.setattr(alertmanager, "request", fail)
    channel = alertmanager.AlertmanagerChannel(Alertmanager(urls=["http://a:1", "http://b:1"]), Secrets())
    notice = Notice("a.am.1", Phase.FIRING, incident("a"), 0.0)

    with pytest.raises(NotDelivered) as raised:
        channel.deliver(Message("a.am.1", "shop", (notice,), 0.0, "", False), Deadline(TurnedClock()))

    assert type(raised.value) is kind


@pytest.mark.parametrize("error", [Refused("it answers 404"), LoginRefused("it answers 401"), TryAgain("it is away")])
def test_a_heartbeat_goes_on_in_time_after_a_failure(error: Exception) -> None:
    """Given a heartbeat every minute that fails for an hour, then it is tried about every minute, so that the service
    does not report that the monitor is down once it answers again.
    """
    bed = Bed()
    asked: list[float] = []

    def fail() -> None:
        asked.append(bed.clock.now)
        raise error

    bed.receivers["beat"] = Receiver(fail)
    bed.duties["1"] = bed.duty("1", None)
    for _ in range(12 * 60):
        bed.go(seconds=4)
        bed.settled()

    assert len(asked) >= 50
    assert max(later - earlier for earlier, later in pairwise(asked)) <= 70


@pytest.mark.parametrize(("status", "kind"), [(400, Refused), (401, LoginRefused), (404, Refused), (503, TryAgain)])
def test_an_answer_refuses_the_message_or_the_login_or_is_temporary(
    status: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the answers of PagerDuty, only status 401 says that it takes no event; with others it may take another."""
    answer = http.Answer(status, b"Event object is invalid")
    monkeypatch.setattr(pagerduty, "request", lambda _method, url, *_, **__: http._require_success(answer, url))
    channel = pagerduty.PagerDutyChannel(PagerDuty(), Secrets(key="k" * 32))
    notice = Notice("a.pager.1", Phase.FIRING, incident("a"), 0.0)

    with pytest.raises(NotDelivered, match=f"it answers {status}") as raised:
        channel.deliver(Message("a.pager.1", "shop", (notice,), 0.0, "", False), Deadline(TurnedClock()))

    assert type(raised.value) is kind
    assert getattr(raised.value, "is_answer", True)


def test_whose_end_is_to_be_told_is_known_from_the_first_look_on() -> None:
    """Given an incident that is claimed, told, and over, it is believed to fire until its end is told; a new leader
    does not know before its first look, nor does one that leads again."""
    hangs = threading.Event()
    bed = Bed(chat=Receiver(hangs.wait))
    bed.known.all = [incident("a")]
    assert bed.duties["1"].believed is None
    bed.go()
    assert bed.duties["1"].believed == {"a"}
    hangs.set()
    bed.settled()
    bed.known.all = [incident("a", phase=Phase.RESOLVED)]
    assert bed.duties["1"].believed == {"a"}
    bed.go(seconds=GROUP_INTERVAL)
    bed.settled()
    assert bed.duties["1"].believed == frozenset()
    bed.duties["1"].start_anew()

    assert bed.duties["1"].believed is None


def test_a_channel_that_hangs_delays_neither_the_loop_nor_another_channel() -> None:
    """Given a channel that never returns, the duty goes on, the other channel is told, and a line says which hangs."""
    hangs = threading.Event()
    bed = Bed(bad=Receiver(hangs.wait), good=Receiver())
    bed.known.all = [incident("a")]
    bed.go()
    wait_until(lambda: bed.receivers["good"].got != [], 30, "the other channel", 0.005)
    bed.go(seconds=SLOW_AFTER + 1)

    assert bed.receivers["bad"].got == []
    assert bed.duties["1"].failing == ["bad"]
    assert bed.reasons() == [f"a delivery has not ended after {SLOW_AFTER:g} s"]
    hangs.set()


def test_an_instance_that_stops_begins_no_message() -> None:
    """Given an instance that stops, what becomes due is left to the next leader, and it need not go on for that."""
    bed = Bed(chat=Receiver())
    bed.known.all = [incident("a")]
    assert not bed.duties["1"].finish()
    for _ in range(3):
        bed.go()
    assert (bed.server.messages.claims, bed.receivers["chat"].calls) == ({}, 0)

    bed.follow()
    bed.go("2")
    bed.settled("2")
    assert bed.receivers["chat"].got == [("a.chat.1", ["a firing"])]


def test_what_was_not_taken_before_a_stop_is_free_for_the_next_leader() -> None:
    """Given a delivery that failed when the instance stops, its claim is released first, so that the next leader makes
    the message at once."""
    bed = Bed(chat=Receiver(fails(TryAgain("away"))))
    bed.known.all = [incident("a")]
    bed.go()
    wait_until(lambda: bed.duties["1"].has_outcome, 30, "the failure", 0.005)
    assert bed.duties["1"].finish()
    bed.go()
    assert not bed.duties["1"].finish()

    bed.follow()
    bed.go("2")
    bed.settled("2")
    assert bed.receivers["chat"].got == [("a.chat.1", ["a firing"])]


def test_what_a_channel_took_is_not_forgotten_while_the_store_is_away() -> None:
    """Given a store that is away when a delivery has ended, it hears of it when it is back, and nothing is repeated."""
    bed = Bed(chat=Receiver())
    bed.known.all = [incident("a")]
    bed.go()
    wait_until(lambda: bed.receivers["chat"].got != [], 30, "the delivery", 0.005)
    trouble = bed.server.trouble

    def away(moment: str) -> None:
        if moment == "before deliveries":
            raise StoreUnavailable("away")

    bed.server.trouble = away
    with pytest.raises(StoreUnavailable):
        bed.settled()
    bed.server.trouble = trouble
    bed.records["1"].store.dial().use()
    for _ in range(3):
        bed.go(seconds=CLAIM_TIMEOUT)

    assert len(bed.receivers["chat"].got) == 1
    assert bed.server.messages.claims == {}


def test_who_wants_to_hear_that_all_is_well_does() -> None:
    """Given a heartbeat every minute, it comes at once and each minute, and not from an instance that does not lead."""
    bed = Bed(beat=Receiver())
    bed.duties = {name: bed.duty(name, None) for name in "12"}
    for _ in range(13):
        bed.go(seconds=10)
        bed.settled()

    assert [name for name, _ in bed.receivers["beat"].got] == ["heartbeat"] * 3
