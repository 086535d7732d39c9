"""What each rule sees in the facts, and what it does not."""

from __future__ import annotations

import shlex

import msgspec
import pytest

from ha_monitor.events.catalogue import State
from ha_monitor.incidents.catalogue import CATALOGUE, KINDS
from ha_monitor.incidents.facts import (
    Facts,
    InstanceFacts,
    LostTasks,
    NamedTasks,
    PoisonTasks,
    QueueFacts,
    SurveyedQueue,
)
from ha_monitor.incidents.listeners import Listener
from ha_monitor.incidents.rules import apply_rules
from ha_monitor.incidents.shared_queue import SharedQueue
from ha_monitor.incidents.sighting import Sighting
from ha_monitor.query.language import Pattern, parse_filter, split_values
from ha_monitor.schedules.model import Definition, History, Judged, Judgement, ScheduleState, Source
from ha_monitor.store.error_groups import ErrorGroup, FailedTask, GroupState
from ha_monitor.store.incidents import BEFORE, Mark, Severity
from ha_monitor.store.name_statistics import Durations, NameStatistic
from ha_monitor.store.queries import Gap, KeptTask
from ha_monitor.store.record import TaskRecord
from ha_monitor.store.results import WorkerState

NOW = 1_795_586_043.5
HOSTILE = "a\x1b[31m'; rm -rf /\n"


def seen(**facts: object) -> list[Sighting]:
    return apply_rules(Facts(NOW, **facts)).sightings  # type: ignore[arg-type]


def said(**facts: object) -> list[tuple[str, str, str]]:
    return [(one.kind, one.key, one.summary) for one in seen(**facts)]


def group(state: GroupState = GroupState.NEW, *, first: float = NOW - 60, last: float = NOW - 1) -> ErrorGroup:
    return ErrorGroup(
        *("0f3c52a9be", "shop.pay", "KeyError", "shop.pay:run", state, 12, 1, first, last, (0,) * 24, "'x'"),
        (FailedTask("t1", last),),
        "",
    )


def names(failed: int = 0, succeeded: int = 0, retried: int = 0) -> list[NameStatistic]:
    return [NameStatistic("shop.pay", succeeded, failed, retried, Durations({}), Durations({}))]


def task(task_id: str, worker: str | None = "celery@a", *, name: str | None = "shop.pay") -> KeptTask:
    return KeptTask(TaskRecord(task_id=task_id, state=State.STARTED, name=name, worker=worker))


def test_nothing_is_seen_where_nothing_is() -> None:
    """Given an empty store, no rule sees anything, and all can be judged but what needs a survey, a count, or
    schedules."""
    found = apply_rules(Facts(NOW))

    assert found.sightings == []
    of_schedules = {"schedule-missed", "schedule-doubled", "schedule-failed", "beat-silent", "learned-missed"}
    assert found.judged == {kind.name for kind in CATALOGUE} - {"no-consumer", "queue-shared"} - of_schedules


def test_while_events_are_on_their_way_only_the_monitor_is_judged() -> None:
    """Given events that are not merged yet, nothing that rests on them is judged."""
    judged = apply_rules(Facts(NOW, survey=[], event_queue=SharedQueue("q"), are_events_merged=False)).judged
    assert judged == {"monitor", "store-went-back", "queue-shared"}


def test_workers_are_not_judged_before_all_were_looked_at() -> None:
    """Given a leader that has looked at some of many workers, what it does not see may be lost all the same."""
    assert "worker-lost" not in apply_rules(Facts(NOW, all_workers=False)).judged


@pytest.mark.parametrize("state", ["online", "late", "offline"])
def test_a_worker_is_lost_only_if_the_leader_says_so(state: str) -> None:
    """Given a worker that is late, or has said goodbye, as in a rolling restart, nothing is seen."""
    assert said(workers=[WorkerState("celery@a", state, None, silent_for=500)]) == []


def test_a_worker_that_was_heard_from_once_is_nobody_s_problem() -> None:
    """Given a lost worker whose name may be an invented one, nothing is seen."""
    assert said(workers=[WorkerState("celery@a", "lost", None, silent_for=500, is_confirmed=False)]) == []


@pytest.mark.parametrize(
    ("had", "words"),
    [
        (LostTasks(), "; it had no known task"),
        (LostTasks(is_partial=True), "; not all open tasks were searched for its tasks"),
        (LostTasks(("1",), asked=1), " with 1 task: 1 being asked about"),
        (
            LostTasks(tuple("1234"), again=1, ended=1, orphaned=2),
            " with 4 tasks: 2 orphaned, 1 run again, 1 ended",
        ),
        (LostTasks(tuple("12"), is_partial=True, again=2), " with at least 2 tasks: 2 run again"),
        (LostTasks(tuple("12"), ended=2, more=998), " with 1,000 tasks, of which 2 are followed: 2 ended"),
    ],
)
def test_a_lost_worker_says_what_became_of_its_tasks(had: LostTasks, words: str) -> None:
    """Given a lost worker, the sentence counts what its tasks came to."""
    workers = [WorkerState("celery@a", "lost", None, silent_for=60, heard=NOW - 60)]

    (one,) = seen(workers=workers, lost_tasks={"celery@a": had})

    assert (one.kind, one.key, one.summary) == ("worker-lost", "celery@a", f"celery@a is lost{words}")
    assert (one.since, one.command) == (NOW - 60, "ha-monitor workers celery@a")


def started(*seconds: float, others: int = 0) -> list[WorkerState]:
    """Workers that started so many seconds ago, and others of which that is not known."""
    known = [WorkerState(f"celery@{number}", "online", 1, came=NOW - ago) for number, ago in enumerate(seconds)]
    return known + [WorkerState(f"other@{number}", "online", 1) for number in range(others)]


@pytest.mark.parametrize(
    ("workers", "wave"),
    [
        pytest.param(started(400, 300, 220), "3 of 3 workers started between 05:47 and 05:50 UTC", id="all"),
        pytest.param(started(300, 290, others=2), "2 of 4 workers started at 05:49 UTC", id="half"),
        pytest.param(started(400, 300, 20), "3 of 3 workers started between 05:47 and 05:53 UTC", id="goes on"),
        pytest.param(started(300, others=1), None, id="one"),
        pytest.param(started(300, 290, others=3), None, id="fewer than half"),
        pytest.param(started(3900, 3890), None, id="long ago"),
        pytest.param(started(900, 300), None, id="apart"),
        pytest.param(started(20, 10), None, id="afterwards"),
    ],
)
def test_workers_that_started_one_after_the_other_are_no_problem_but_what_changed(
    workers: list[WorkerState], wave: str | None
) -> None:
    """Given a restart wave in the hour before an error was new, the sentence and the facts say so, and nothing else is
    seen; a mark of a deployment goes first.
    """
    (one,) = seen(workers=workers, errors=[group(first=NOW - 200)])
    (two,) = seen(workers=workers, errors=[group(first=NOW - 200)], marks=[Mark("v512", NOW - 440)])

    assert one.facts.get(BEFORE) == wave
    assert one.summary.endswith(f", new since {wave}" if wave else "12 failures and 1 retry")
    assert two.facts[BEFORE] == "; ".join(filter(None, ("deploy v512, 4 min earlier", wave)))
    assert two.summary.endswith(", new since v512")


def test_a_poison_task_names_itself_and_the_workers_that_were_lost_under_it() -> None:
    """Given a task under which two workers were lost, the sentence, the facts and the command name it; of several of a
    name, how many there are."""
    found = PoisonTasks("shop.pay", (task("t1"),), ("celery@a", "celery@b"), 2)
    several = PoisonTasks("shop.pay", (task("t1"), task("t2")), ("celery@a", "celery@b", "celery@c"), 3)

    (one,) = seen(poison=[found])
    (two,) = seen(poison=[several])

    assert one.summary == "task t1 of shop.pay lost its worker 2 times while running: celery@a and celery@b"
    assert (one.kind, one.key, one.size, one.command) == ("poison-task", "shop.pay", 1, "ha-monitor task t1")
    assert one.facts == {"name": "shop.pay", "task": "t1", "losses": 2, "workers": "celery@a, celery@b"}
    assert one.members == ("celery@a", "celery@b")
    assert KINDS["poison-task"].severity is Severity.PAGE
    assert two.summary == (
        "2 tasks of shop.pay lost their workers up to 3 times while running: celery@a, celery@b and celery@c"
    )
    assert (two.size, two.tasks) == (2, ("t1", "t2"))
    assert two.command == "ha-monitor tasks name=shop.pay state=open"


@pytest.mark.parametrize(("oldest", "is_late"), [(None, False), (NOW - 300, False), (NOW - 301, True)])
def test_a_queue_is_late_by_its_oldest_task(oldest: float | None, *, is_late: bool) -> None:
    """Given many tasks that wait, only the age of the oldest matters: depth says nothing."""
    found = said(queues=[QueueFacts("mail", 100_000, oldest)])

    words = "100,000 tasks wait in queue mail, the oldest for more than 5 minutes"
    assert found == ([("queue-late", "mail", words)] if is_late else [])


@pytest.mark.parametrize(("length", "consumed", "is_seen"), [(0, False, False), (5, True, False), (5, False, True)])
def test_a_queue_needs_a_consumer_only_if_something_waits(length: int, *, consumed: bool, is_seen: bool) -> None:
    """Given a queue without workers, it is seen if messages wait there."""
    found = said(survey=[SurveyedQueue("mail", length, consumed)])

    words = "no worker consumes queue mail, in which 5 messages wait"
    assert found == ([("no-consumer", "mail", words)] if is_seen else [])


def test_a_new_error_says_since_which_deployment() -> None:
    """Given a group that is new, its first error after the last mark, the sentence names that mark; one from before
    does not.
    """
    words = "new error in shop.pay: KeyError at shop.pay:run, 12 failures and 1 retry"
    assert said(errors=[group()]) == [("error-new", "0f3c52a9be", words)]
    marks = [Mark("v512", NOW - 100), Mark("v511", NOW - 900)]
    assert said(errors=[group()], marks=marks)[0][2] == f"{words}, new since v512"
    assert seen(errors=[group()], marks=marks)[0].facts["deployed"] == NOW - 100
    assert said(errors=[group(first=NOW - 500)], marks=marks)[0][2] == words


@pytest.mark.parametrize("state", [GroupState.KNOWN, GroupState.RESOLVED, GroupState.IGNORED])
def test_a_known_error_is_no_news(state: GroupState) -> None:
    """Given a group that is known, resolved or ignored, nothing is seen; so it is for all of them in a new store."""
    assert said(errors=[group(state)]) == []


def test_a_new_error_lasts_until_a_day_passes_without_it() -> None:
    """Given an incident of a group that is no longer new, it lasts while errors come."""
    open_keys = frozenset([("error-new", "0f3c52a9be")])
    known = group(GroupState.KNOWN, first=NOW - 200_000)
    assert [one.kind for one in seen(errors=[known], open_keys=open_keys)] == ["error-new"]
    assert seen(errors=[known._replace(last=NOW - 86_400)], open_keys=open_keys) == []


def test_an_error_that_was_resolved_and_came_again() -> None:
    """Given a group that has regressed, that is seen for a day after its last error."""
    words = "error that was resolved is back in shop.pay: KeyError at shop.pay:run, 12 failures and 1 retry"
    assert said(errors=[group(GroupState.REGRESSED)]) == [("error-regressed", "0f3c52a9be", words)]
    assert said(errors=[group(GroupState.REGRESSED, last=NOW - 86_400)]) == []


@pytest.mark.parametrize(
    ("failed", "succeeded", "is_seen"), [(19, 0, False), (1, 19, False), (2, 18, True), (20, 0, True)]
)
def test_a_name_fails_by_its_share(failed: int, succeeded: int, *, is_seen: bool) -> None:
    """Given a tenth of at least twenty runs, it is failing."""
    found = seen(names=names(failed, succeeded))

    assert [one.kind for one in found] == (["failing"] if is_seen else [])
    if failed == 2:
        assert found[0].summary == "2 of 20 runs of shop.pay in 5 minutes failed (10%)"
        assert found[0].command == "ha-monitor tasks name=shop.pay state=FAILURE --since -10m"


@pytest.mark.parametrize(
    ("retried", "succeeded", "before", "is_seen"),
    [
        (24, 25, False, False),
        (25, 25, False, True),
        (20, 30, False, False),
        (20, 30, True, True),
        (16, 34, True, False),
        (50, 0, False, True),
    ],
)
def test_a_storm_of_retries(retried: int, succeeded: int, *, before: bool, is_seen: bool) -> None:
    """Given twice as many runs as tasks that ended, of at least fifty, it is one, until it is less than one and a half
    times.
    """
    open_keys = frozenset([("retry-storm", "shop.pay")] if before else [])

    found = seen(names=names(0, succeeded, retried), open_keys=open_keys)

    assert [one.kind for one in found if not one.is_ending] == (["retry-storm"] if is_seen else [])


@pytest.mark.parametrize(
    ("kind", "runs", "summary"),
    [
        ("failing", names(failed=1, succeeded=199), "1 of 200 runs of shop.pay in 5 minutes failed (0%)"),
        ("failing", names(), "0 of 0 runs of shop.pay in 5 minutes failed"),
        ("retry-storm", names(retried=9, succeeded=91), "9 of 100 runs of shop.pay in 5 minutes were retried"),
        ("retry-storm", names(), "0 of 0 runs of shop.pay in 5 minutes were retried"),
    ],
)
def test_what_is_over_soon_has_the_figures_of_now(kind: str, runs: list[NameStatistic], summary: str) -> None:
    """Given an open incident of a name that does better again, its figures are seen, as those of one that ends; without
    an incident nothing is."""
    (one,) = seen(names=runs, open_keys=frozenset([(kind, "shop.pay")]))

    assert (one.kind, one.summary, one.is_ending) == (kind, summary, True)
    assert seen(names=runs) == []


def test_stuck_and_orphaned_tasks_are_told_of_by_name() -> None:
    """Given some tasks of a name, the incident counts them, and knows their workers if all have one."""
    both = NamedTasks("shop.pay", (task("t1"), task("t2", "celery@b")))
    stuck, orphaned = seen(stuck=[both], orphaned=[NamedTasks("shop.pay", (task("t3", None),))])

    assert (stuck.kind, stuck.summary) == ("task-stuck", "2 tasks of shop.pay are stuck")
    assert (stuck.workers, stuck.tasks) == ({"celery@a", "celery@b"}, ("t1", "t2"))
    assert orphaned.summary == "1 task of shop.pay is orphaned: no worker or queue has it any longer"
    assert (orphaned.command, orphaned.workers) == ("ha-monitor task t3", frozenset())


def test_lost_events_by_worker_for_a_quarter_of_an_hour() -> None:
    """Given what was found to be missing, by when that was found, those of each worker are added up."""
    gaps = [
        Gap("", NOW - 9000, NOW - 9000, "celery@a", 3, NOW - 100),
        Gap("", NOW - 200, NOW - 100, "celery@a", 2, NOW - 50),
        Gap("", NOW - 2000, NOW - 2000, "celery@b", 2, NOW - 900),
        Gap("12 starts of celery@c", NOW - 20, NOW - 10),
    ]
    words = "5 events of celery@a never arrived: what is known of its tasks is incomplete"

    assert said(gaps=gaps) == [("events-lost", "celery@a", words)]


def instance(name: str, **changes: object) -> InstanceFacts:
    return InstanceFacts(name, **{"is_alive": True, "is_consuming": True, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"instances": [instance("h/1"), instance("h/2")]}, []),
        # It came back under its name.
        ({"instances": [instance("h/1"), instance("h/1", is_alive=False, died_at=NOW - 9)]}, []),
        # It is missing for so long that it was taken away.
        ({"instances": [instance("h/1"), instance("h/2", is_alive=False, died_at=NOW - 86_400)]}, []),
        (
            {"instances": [instance("h/1"), instance("h/2", is_alive=False, died_at=NOW - 9)]},
            [("instances", "1 instance of the monitor died and did not come back: h/2")],
        ),
        (
            {"instances": [instance("h/1"), instance("h/2", is_consuming=False)]},
            [("consuming", "h/2 does not consume Celery's events")],
        ),
        (
            {"instances": [instance("h/1", is_consuming=False)]},
            [("consuming", "no instance consumes Celery's events")],
        ),
        (
            {"instances": [instance("h/1", lag=61)]},
            [("lag", "events are merged more than 60 s late by h/1: answers are outdated")],
        ),
        ({"memory": 0.89}, []),
        (
            {"memory": 0.93},
            [("store", "Redis has used more than 90 % of its memory (maxmemory): when it is full, it refuses writes")],
        ),
        (
            {"failing_channels": ["mail"]},
            [("channel-mail", "channel mail does not take all messages: somebody may not be notified")],
        ),
    ],
)
def test_what_the_monitor_lacks(facts: dict[str, object], found: list[tuple[str, str]]) -> None:
    """Given a monitor without an instance or events, late, with a full store, or with a channel that fails,
    each has a key of its own.
    """
    assert [(one.key, one.summary) for one in seen(**facts)] == found


@pytest.mark.parametrize(("at", "count"), [(0.0, 0), (NOW - 10, 1), (NOW - 900, 0), (NOW + 10, 0)])
def test_a_store_that_went_back(at: float, count: int) -> None:
    """Given a store that went back, that is seen for a quarter of an hour."""
    assert len(seen(went_back_at=at)) == count


def test_a_queue_that_something_else_consumes() -> None:
    """Given consumers of others in the queue of events, one sentence says how many, and what to do; given none, or
    while that is not known, nothing is seen, and while it is not known, it is not over either.
    """
    (one,) = seen(event_queue=SharedQueue("celeryev.x", 5, 2, lasts=50.0))

    assert one == Sighting(
        "queue-shared",
        "celeryev.x",
        "celeryev.x has 5 consumers, and this store knows 2 instances: something else takes events away, probably "
        "instances with another store; give those a node_id of their own, or the same store.url",
        size=3,
        since=NOW - 50,
        command="ha-monitor check --online",
    )
    assert seen(event_queue=SharedQueue("celeryev.x")) == seen() == []
    assert "queue-shared" not in apply_rules(Facts(NOW)).judged
    assert "queue-shared" in apply_rules(Facts(NOW, event_queue=SharedQueue("celeryev.x"))).judged


@pytest.mark.parametrize(("hears", "count"), [([], 1), (["a"], 0)], ids=["two Redis", "one Redis"])
def test_instances_at_two_brokers_that_should_be_one(hears: list[str], count: int) -> None:
    """Given two instances that consume, of which neither has received what the other sent to all, they are at two
    Redis, and that is said once, in the same words whichever comes first; one that does not consume is at none.
    """
    one = InstanceFacts("h/1", is_alive=True, is_consuming=True, broker="r1:6379", listener=Listener("a", ["a"], 0.1))
    listener = Listener("b", ["b", *hears], 0.1)
    other = InstanceFacts("h/2", is_alive=True, is_consuming=True, broker="r2:6379", listener=listener)

    found = said(instances=[one, other])

    assert found == said(instances=[other, one])
    assert [text[:3] for text in found] == count * [
        (
            "monitor",
            "brokers",
            "instances consume from two Redis servers, at r1:6379 and at r2:6379: what is sent to all listeners of one "
            "does not reach the other, so that one record mixes two applications; give the instances of each broker a "
            "node_id of their own",
        )
    ]
    assert said(instances=[one, other._replace(listener=None)]) == []


@pytest.mark.parametrize(
    ("ago", "before"),
    [(60, None), (120, "deploy v512, 0 min earlier"), (360, "deploy v512, 4 min earlier"), (3721, None)],
)
def test_what_was_deployed_before_it_is_said(ago: float, before: str | None) -> None:
    """Given something that began two minutes ago, the last deployment of the hour before that is a fact of it; a later
    one is not."""
    marks = [Mark("v512", NOW - ago), Mark("v511", NOW - 86_400)]

    (one,) = seen(went_back_at=NOW - 120, marks=marks)

    assert one.facts.get("before") == before


@pytest.mark.parametrize("name", ["shop.pay", "a,b", "a*b", "a\\b", "\\*,'x y'"])
def test_the_command_of_an_incident_finds_what_the_incident_is_about(name: str) -> None:
    """Given a name with the characters that mean something in patterns and in filters, when the command of an incident
    is typed into a shell, then it matches this name and no other."""
    definition = Definition(name=name, task="shop.report", timetable="every 5m", source=Source.CONF)
    missed = Judgement(definition, ScheduleState.MISSED, History(name, "every 5m", "", NOW - 900))
    found = seen(
        workers=[WorkerState(name, "lost", None)],
        queues=[QueueFacts(name, 1, NOW - 1000)],
        survey=[SurveyedQueue(name, 1, False)],
        names=[one._replace(name=name) for one in names(50, 0, 100)],
        stuck=[NamedTasks(name, (task("t1", name=name), task("t2", name=name)))],
        gaps=[Gap("", NOW, NOW, name, 3, NOW)],
        schedules=Judged([missed]),
    )

    asked = [shlex.split(one.command)[1:3] for one in found]
    assert {noun for noun, _ in asked} == {"workers", "queues", "tasks", "schedules"}
    for noun, word in asked:
        (parts,) = split_values(word.partition("=")[2] if noun == "tasks" else word)
        assert Pattern(parts).exact == name


def test_the_command_finds_tasks_whose_name_never_came() -> None:
    """Given tasks of whose names nothing is known, each sentence says so, and its command finds them and no others."""
    nameless = (task("t1", name=None), task("t2", name=None))
    found = seen(
        stuck=[NamedTasks("unknown", nameless)],
        orphaned=[NamedTasks("unknown", nameless)],
        poison=[PoisonTasks("unknown", nameless, ("celery@a", "celery@b"), 2)],
    )

    assert [one.summary.partition(" of ")[2].partition(" ")[0] for one in found] == ["unknown"] * 3
    assert {one.command for one in found} == {"ha-monitor tasks name= state=open"}
    asked = parse_filter(["name=", "state=open"], NOW)
    assert [asked.holds(one, NOW) for one in (*nameless, task("t3"), task("t4", name="unknown"))] == [
        *(True, True),
        *(False, False),
    ]


def test_no_name_reaches_a_terminal_or_a_shell_as_it_is() -> None:
    """Given names with control characters, quotes and newlines, sentences and commands show them harmlessly."""
    found = seen(
        workers=[WorkerState(HOSTILE, "lost", None)],
        queues=[QueueFacts(HOSTILE, 1, NOW - 1000)],
        survey=[SurveyedQueue(HOSTILE, 1, False)],
        errors=[group()._replace(name=HOSTILE, error_class=HOSTILE, place=HOSTILE)],
        names=[one._replace(name=HOSTILE) for one in names(50, 0, 100)],
        stuck=[NamedTasks(HOSTILE, (task("t1", name=HOSTILE), task("t2", name=HOSTILE)))],
        gaps=[Gap("", NOW, NOW, HOSTILE, 3, NOW)],
        instances=[instance(HOSTILE, is_consuming=False)],
        marks=[Mark(HOSTILE, NOW - 100)],
    )

    assert len(found) == 9
    for one in found:
        # What is written can be read.
        assert (
            msgspec.json.decode(msgspec.json.encode(one.facts), type=dict[str, str | int | float | None]) == one.facts
        )
        assert not any(character in one.summary + one.command for character in "\x1b\n"), one
        assert "'; rm" not in one.command.replace("'\"'\"'; rm", "")
