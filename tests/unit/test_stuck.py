"""What is made of the answers of workers and result backend, and of the limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ha_monitor.backend.results import Result, ResultBackend, Stored, Unreadable, exception_text, read_result
from ha_monitor.broker.task_query import Held, WorkerAnswers, read_answers, read_settings
from ha_monitor.config import schema
from ha_monitor.config.schema import StuckSettings, TaskLimits
from ha_monitor.errors import BrokerUnavailable, ConfigurationError, ResultBackendUnavailable
from ha_monitor.pipeline.evaluation import Evaluation, evaluate
from ha_monitor.pipeline.investigator import Findings, Investigator
from ha_monitor.pipeline.stuck import StuckTaskDuty
from ha_monitor.store.results import Candidate, Candidates, OrphanedTask, StuckTask
from ha_monitor.store.stuck import first_look, limits_of, lua_pattern
from tests.support.process import wait_until
from tests.support.threads import plain_threads
from tests.unit.builders import TurnedClock, fact_builder

WORKER = "celery@host"
RESULT = Result("task-succeeded", 1.0, "", {"result": "3"})


def candidate(phase: Any = "started", state: str = "online", worker: str = WORKER, task_id: str = "a") -> Candidate:
    return Candidate(task_id, phase, 1, "shop.pay", "celery", worker, state)


def other_id(state: str = "online") -> Candidate:
    """Its id is a UUID or a number to the workers."""
    return candidate(state=state)._replace(is_known=False)


def later() -> Candidate:
    """One that came to its phase a thousand seconds after the epoch."""
    return candidate()._replace(since=1_000_000_000)


def where(*answered: str, **held: Held) -> WorkerAnswers:
    return WorkerAnswers(frozenset(answered), held)


RUNS, WAITS = Held(WORKER, True), Held(WORKER, False)
NOBODY = where()
OTHERS = where("other@host")
ALL = where("other@host", WORKER)


@pytest.mark.parametrize(
    ("of", "answers", "results", "evaluation"),
    [
        # A worker has it: it is there, whatever else is said.
        (candidate(), where(WORKER, a=RUNS), None, StuckTask("started", ["worker"], 1)),
        (candidate("received"), where(WORKER, a=WAITS), {}, StuckTask("received", ["worker"], 1)),
        (candidate("sent", ""), where(WORKER, a=RUNS), {}, StuckTask("started", ["worker"], 1)),
        (candidate(state="lost"), where(WORKER, a=RUNS), None, StuckTask("started", ["worker"], 1)),
        # None has it.
        (candidate("sent", ""), NOBODY, None, StuckTask("sent", [], 0)),
        (candidate("sent", ""), OTHERS, {"a": None}, StuckTask("sent", ["workers", "result-backend"], 1)),
        (candidate(), ALL, None, OrphanedTask(False, ["workers"], 2)),
        # What was not started is still in its queue, or with a worker that need not list it (a rate limit).
        (candidate("received"), ALL, {"a": None}, StuckTask("received", ["workers", "result-backend"], 2)),
        (candidate("received", "lost"), OTHERS, None, StuckTask("received", ["worker-lost", "workers"], 1)),
        (candidate("received", "offline"), OTHERS, None, StuckTask("received", ["workers"], 1)),
        (candidate("received"), OTHERS, None, None),
        (candidate(state="lost"), NOBODY, None, OrphanedTask(True, ["worker-lost"], 0)),
        (candidate(state="lost"), OTHERS, None, OrphanedTask(True, ["worker-lost", "workers"], 1)),
        (candidate(state="offline"), OTHERS, None, OrphanedTask(False, ["workers"], 1)),
        (candidate(state="gone"), NOBODY, {"a": None}, OrphanedTask(False, ["result-backend"], 0)),
        # A worker that is there and does not answer confirms nothing.
        (candidate(), OTHERS, None, None),
        (candidate(state="late"), NOBODY, None, None),
        (candidate(state="unknown"), OTHERS, {"a": None}, None),
        # The workers know it by another id: that none says that it has it proves nothing.
        (other_id(), ALL, {"a": None}, StuckTask("started", [], 2)),
        (other_id(state="offline"), ALL, None, StuckTask("started", [], 2)),
        (other_id(state="lost"), ALL, {"a": None}, OrphanedTask(True, ["worker-lost"], 2)),
        (other_id(), ALL, {"a": RESULT}, RESULT),
        # The result is known, or cannot be read, or was not read.
        (candidate(), OTHERS, {"a": RESULT}, RESULT),
        (candidate("sent", ""), NOBODY, {"a": RESULT}, RESULT),
        (candidate(state="lost"), OTHERS, {"a": RESULT}, RESULT),
        (candidate(state="lost"), OTHERS, {"a": Unreadable()}, None),
        (candidate(state="lost"), OTHERS, {}, None),
        # A result from before is that of another task with the same id; clocks differ a little.
        (later(), ALL, {"a": RESULT}, OrphanedTask(False, ["workers", "result-backend"], 2)),
        (later(), ALL, {"a": RESULT._replace(time=950.0)}, RESULT._replace(time=950.0)),
        (later(), ALL, {"a": RESULT._replace(time=None)}, RESULT._replace(time=None)),
    ],
)
def test_what_is_made_of_the_answers(
    of: Candidate, answers: WorkerAnswers, results: Mapping[str, Stored] | None, evaluation: Evaluation
) -> None:
    assert evaluate(of, answers, results, acks_late=False) == evaluation


@pytest.mark.parametrize("acks_late", [True, None], ids=["late", "unknown"])
def test_only_a_start_that_took_the_message_away_makes_an_orphan(acks_late: bool | None) -> None:
    """Given a task that is acknowledged when it ends, or of which nobody said when, it is stuck and no orphan: its
    message may be back in its queue."""
    assert evaluate(candidate(), ALL, None, acks_late) == StuckTask("started", ["workers"], 2)
    lost = evaluate(candidate(state="lost"), NOBODY, None, acks_late)
    assert lost == StuckTask("started", ["worker-lost"], 0)


def test_settings_of_tasks_are_read() -> None:
    """Given what workers say of their tasks, one that is acknowledged late anywhere is; what is no setting is left."""
    answers: dict[str, Any] = {
        "a@h": ["shop.pay [acks_late=False]", "shop.book [acks_late=True]", "odd [x] [acks_late=False]"],
        "b@h": ["shop.pay [acks_late=True]", "shop.mail [rate_limit=1/m]", "shop.file", 7],
        "c@h": {"error": "no such command"},
    }

    assert read_settings(answers) == {"shop.pay": True, "shop.book": True, "odd [x]": False}


def test_answers_of_all_kinds_are_read() -> None:
    """Given answers of workers, one that failed counts as none; of two that have a task, it is who runs it."""
    answers = {
        "a@h": {"t1": ["active", {"id": "t1"}], "t2": ["reserved", {}]},
        "b@h": {"t1": ["ready", {}], "t2": ("active", {})},
        "c@h": {},
        "d@h": {"error": "no such command"},
        "e@h": None,
    }

    found = read_answers(answers)
    assert found.answered == {"a@h", "b@h", "c@h"}
    assert found.held == {"t1": Held("a@h", True), "t2": Held("b@h", True)}


# --- the result backend --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "result"),
    [
        ({"status": "PENDING", "result": None}, None),
        ({"status": "STARTED", "result": {"pid": 1}}, None),
        ({"status": "RETRY", "result": {"exc_type": "ValueError", "exc_message": ["x"]}}, None),
        ({}, None),
        (
            {"status": "SUCCESS", "result": "x", "date_done": "1970-01-01T00:00:05+00:00", "worker": WORKER},
            Result("task-succeeded", 5.0, WORKER, {"result": "'x'"}),
        ),
        (
            {"status": "SUCCESS", "result": {"a": 1}, "date_done": "1970-01-01T00:00:05"},
            Result("task-succeeded", 5.0, "", {"result": "{'a': 1}"}),
        ),
        (
            {"status": "FAILURE", "result": {"exc_type": "KeyError", "exc_message": ["x"]}, "traceback": "…"},
            Result("task-failed", None, "", {"exception": "KeyError('x')", "traceback": "…"}),
        ),
        ({"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": []}, "worker": 7}, Result(
            "task-revoked", None, "", {}
        )),
    ],
)  # fmt: skip
def test_a_result_is_read_as_the_event_that_is_missing(meta: dict[str, Any], result: Result | None) -> None:
    assert read_result(meta) == result


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ({"exc_type": "KeyError", "exc_message": ["x"], "exc_module": "builtins"}, "KeyError('x')"),
        ({"exc_type": "HTTPError", "exc_message": [404, "gone"]}, "HTTPError(404, 'gone')"),
        ({"exc_type": "WorkerLostError", "exc_message": "exit code 9"}, "WorkerLostError('exit code 9')"),
        ({"exc_type": "Odd", "exc_message": []}, "Odd()"),
        ({"message": "?"}, "{'message': '?'}"),
        (None, "None"),
    ],
)
def test_an_exception_looks_as_in_its_event(kept: Any, text: str) -> None:
    assert exception_text(kept) == text


def test_secrets_in_a_result_are_hidden_as_in_an_event() -> None:
    """Given a result with a secret, the event made of it hides it, and says where it comes from."""
    import msgspec

    body = {"type": "task-failed", "hostname": WORKER, "uuid": "a", "timestamp": 5.0}
    fact = fact_builder().task_fact(
        {**body, "exception": "PermissionError('password=hunter2')", "traceback": None}, "task-failed", "reconciled"
    )

    assert b"hunter2" not in msgspec.msgpack.encode(fact)
    assert b"reconciled" in msgspec.msgpack.encode(fact)


@pytest.mark.parametrize("url", ["nonsense://host", "no.such.module:Backend://"])
def test_a_url_that_names_no_backend_is_a_mistake_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^result_backend\.url: "):
        ResultBackend(schema.ResultBackend(url=url))


class Failing:
    """A backend that fails for some tasks."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.asked: list[str] = []

    def get_task_meta(self, task_id: str, cache: bool) -> dict[str, Any]:
        assert not cache
        self.asked.append(task_id)
        if task_id in self.failing:
            raise RuntimeError("redis://:hunter2@host: it is\naway")
        return {"status": "PENDING"}


def backend(fake: Failing) -> ResultBackend:
    made = ResultBackend(schema.ResultBackend(url="cache+memory://"))
    made._backend = fake
    return made


def test_a_backend_that_fails_once_does_not_cost_the_other_results() -> None:
    assert backend(Failing("b", "d")).results("abcde") == {"a": None, "c": None, "e": None}


@pytest.mark.parametrize(("failing", "asked"), [("a", "a"), ("bcd", "abcd")])
def test_a_backend_that_is_away_is_not_asked_on_and_on(failing: str, asked: str) -> None:
    """Given a backend that fails at once or again and again, it counts as away; the reason shows no password."""
    fake = Failing(*failing)

    with pytest.raises(ResultBackendUnavailable, match=r"^redis://:\*\*\*@host: it is away$"):
        backend(fake).results("abcdefgh")
    assert fake.asked == list(asked)


@pytest.mark.parametrize("raw", [b"{", b"[1, 2]", b'"text"', b'{"result": 1}', b'{"status": []}'])
@pytest.mark.parametrize("unreadable", ["a", "abc"])
def test_what_is_no_result_costs_only_its_own_task(raw: bytes, unreadable: str) -> None:
    """Given a backend with data of something else than Celery, in whichever order it is asked for, the results of all
    other tasks are known: the backend has answered.
    """
    made = ResultBackend(schema.ResultBackend(url="cache+memory://"))
    for task_id in unreadable:
        made._backend.set(made._backend.get_key_for_task(task_id), raw)
    made._backend.store_result("d", 3, "SUCCESS")

    found = made.results([*unreadable, "d", "e"])

    assert set(found) == {*unreadable, "d", "e"}
    assert all(isinstance(found[task_id], Unreadable) for task_id in unreadable)
    assert isinstance(found["d"], Result)
    assert (found["d"].fields, found["e"]) == ({"result": "3"}, None)


# --- asking --------------------------------------------------------------------------------


def ask(workers: Any, results: Any = None) -> Findings:
    clock = TurnedClock()
    investigator = Investigator(workers, results, clock, plain_threads(clock))
    assert (investigator.busy, investigator.take()) == (False, None)
    investigator.ask(Candidates(5000, [candidate(task_id="a"), candidate(task_id="b")]))
    assert investigator.busy
    found: list[Findings] = []

    def taken() -> bool:
        findings = investigator.take()
        if findings is not None:
            found.append(findings)
        return bool(found)

    wait_until(taken, 10, "the answer", 0.01)
    assert not investigator.busy
    return found[0]


def test_only_tasks_that_no_worker_has_are_looked_up() -> None:
    """Given two tasks of which a worker has one, the result backend is asked for the other."""
    asked: list[Sequence[str]] = []

    def results(task_ids: Sequence[str]) -> dict[str, Stored]:
        asked.append(task_ids)
        return {"b": RESULT}

    findings = ask(lambda _ids, _workers: where(WORKER, a=RUNS), results)

    assert asked == [["b"]]
    assert [evaluation for _, evaluation in findings.evaluations] == [StuckTask("started", ["worker"], 1), RESULT]
    assert findings.problem is None
    assert findings.answered_at == 5001


def test_only_what_is_stored_can_be_unreadable() -> None:
    """Given a result that cannot be read, and one for which the backend failed, only the first is reported as such."""
    findings = ask(lambda _ids, _workers: where(WORKER), lambda _ids: {"a": Unreadable()})

    assert [evaluation for _, evaluation in findings.evaluations] == [None, None]
    assert (findings.unreadable, findings.problem) == (["a"], None)


def test_who_cannot_be_asked_gives_no_opinion() -> None:
    """Given a broker that is away, there is a reason instead of evaluations."""

    def workers(_ids: Sequence[str], _workers: Sequence[str]) -> WorkerAnswers:
        raise BrokerUnavailable("127.0.0.1:5672: refused")

    findings = ask(workers)
    assert findings.evaluations == []
    assert findings.problem == "127.0.0.1:5672: refused"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("odd", "odd"),
        ("no\nway to redis://:hunter2@cache/0", "no way to redis://:***@cache/0"),
        ("x" * 5000, "x" * 299 + "…"),
    ],
    ids=["plain", "lines and a password", "long"],
)
def test_a_mistake_of_a_library_is_a_reason_and_not_the_end(text: str, said: str) -> None:
    """Given a library that raises what nobody foresaw, there is a reason, too, in one short line without passwords, and
    the next question can be asked.
    """

    def workers(_ids: Sequence[str], _workers: Sequence[str]) -> WorkerAnswers:
        raise ZeroDivisionError(text)

    assert ask(workers).problem == f"ZeroDivisionError: {said}"


# --- the leader's duty ---------------------------------------------------------------------


class Tasks:
    """The shared record: one overdue task, and a note of when it was confirmed."""

    def __init__(self) -> None:
        self.ids = "a"
        self.looks = 0
        self.confirmed: list[tuple[int, Any]] = []
        self.too_early = False

    def candidates(self) -> Candidates:
        self.looks += 1
        return Candidates(5_000_000, [candidate(task_id=one) for one in self.ids])

    def confirm(self, required_watermark: int, confirmations: Any) -> list[Any] | None:
        self.confirmed.append((required_watermark, confirmations))
        return None if self.too_early else ["item"]


class Duty:
    """The duty, with answers that are there at once."""

    def __init__(
        self,
        answer: Callable[[Sequence[str]], WorkerAnswers] = lambda _ids: where(WORKER, a=RUNS),
        results: Callable[[Sequence[str]], Mapping[str, Stored]] | None = None,
    ) -> None:
        self.clock = TurnedClock()
        self.tasks = Tasks()
        self.warnings: list[str] = []
        self.reasons: list[str] = []

        def takes_time(ids: Sequence[str], _workers: Sequence[str]) -> WorkerAnswers:
            self.clock.now += 2
            return answer(ids)

        def warning(event: str, reason: str) -> None:
            self.warnings.append(event)
            self.reasons.append(reason)

        self.investigator = Investigator(takes_time, results, self.clock, plain_threads(self.clock))
        logger: Any = SimpleNamespace(warning=warning)
        reconciler: Any = None
        self.duty = StuckTaskDuty(
            self.tasks, investigator=self.investigator, reconciler=reconciler, logger=logger, clock=self.clock
        )

    def proceed(self) -> list[Any]:
        return self.duty.run()

    def look(self) -> None:
        """Look, and take the answer."""
        self.clock.now += 5
        self.duty.queue_was_empty(self.clock.now)
        assert self.proceed() == []
        wait_until(lambda: not self.investigator.is_running, 10, "the answer", 0.01)
        assert self.proceed() == []


def test_a_confirmation_waits_until_the_queue_was_empty_after_the_answer() -> None:
    """Given an answer, it is confirmed only once the queue of events was seen empty after it, as of that moment."""
    one = Duty()
    one.look()
    one.clock.now += 3
    assert (one.proceed(), one.tasks.confirmed) == ([], [])
    one.duty.queue_was_empty(one.clock.now)

    assert one.proceed() == ["item"]
    ((required_watermark, ((confirmed, confirmation),)),) = one.tasks.confirmed
    assert required_watermark == pytest.approx(5_005_000, abs=5)
    assert (confirmed.task_id, confirmation) == ("a", StuckTask("started", ["worker"], 1))
    assert one.proceed() == []
    assert len(one.tasks.confirmed) == 1


def test_a_confirmation_that_comes_too_early_for_a_minute_is_dropped() -> None:
    """Given an instance that does not get its events merged, it is tried again, and dropped after a minute."""
    one = Duty()
    one.tasks.too_early = True
    one.look()
    one.duty.queue_was_empty(one.clock.now + 1)
    for _ in range(3):
        assert one.proceed() == []
    assert len(one.tasks.confirmed) == 3
    one.clock.now += 61
    one.tasks.too_early = False

    assert one.proceed() == []
    assert len(one.tasks.confirmed) == 3


def test_nothing_is_looked_for_while_messages_wait() -> None:
    """Given a queue that was not empty for some time, nothing is looked for, until it is."""
    one = Duty()
    one.clock.now += 100
    one.proceed()
    assert one.tasks.looks == 0
    one.duty.queue_was_empty(one.clock.now)
    one.clock.now += 20
    one.proceed()
    assert one.tasks.looks == 0
    one.look()

    assert one.tasks.looks == 1


def test_that_nobody_can_be_asked_is_said_once() -> None:
    """Given a broker that is away for some rounds, one line says so; another one when it is away again later."""
    away = True

    def answer(_ids: Sequence[str]) -> WorkerAnswers:
        if away:
            raise BrokerUnavailable("refused")
        return where(WORKER)

    one = Duty(answer)
    one.look()
    one.look()
    assert one.warnings == ["task-inspection-failed"]
    away = False
    one.look()
    one.duty.queue_was_empty(one.clock.now + 1)
    one.proceed()
    away = True
    one.look()

    assert one.warnings == ["task-inspection-failed"] * 2


def test_results_that_cannot_be_read_are_said_once_an_hour() -> None:
    """Given a result that cannot be read, a line names its task, and another one an hour later; the other tasks are
    confirmed all the same.
    """
    one = Duty(lambda _ids: where(WORKER, b=RUNS), lambda _ids: {"a": Unreadable()})
    one.tasks.ids = "ab"

    def round_of_it() -> None:
        one.look()
        one.duty.queue_was_empty(one.clock.now + 1)
        assert one.proceed() == ["item"]

    round_of_it()
    round_of_it()
    assert one.reasons == ["the result backend has results that cannot be read, such as that of task a"]
    one.clock.now += 3600
    round_of_it()

    assert len(one.reasons) == 2
    assert [[each.task_id for each, _ in confirmed] for _, confirmed in one.tasks.confirmed] == [["b"]] * 3


def test_an_answer_that_never_comes_is_said() -> None:
    """Given a library that waits for ever, one line says so."""
    never = threading.Event()

    def answer(_ids: Sequence[str]) -> WorkerAnswers:
        never.wait(60)
        return where(WORKER)

    one = Duty(answer)
    one.clock.now += 5
    one.duty.queue_was_empty(one.clock.now)
    one.proceed()
    one.clock.now += 100
    one.proceed()
    assert one.warnings == []
    one.clock.now += 30
    for _ in range(3):
        one.proceed()
    never.set()

    assert one.warnings == ["task-inspection-failed"]


# --- limits --------------------------------------------------------------------------------


def test_limits_are_handed_to_the_scripts_in_milliseconds() -> None:
    settings = StuckSettings(
        sent_after=1.5,
        received_after=0,
        tasks={"a.*": TaskLimits(started_after=0.25), "*": TaskLimits(sent_after=0, received_after=9)},
    )

    assert limits_of(settings) == {
        **{"sent": 1500, "received": 0, "started": 3_600_000, "run_time_factor": 10.0, "least_run_time": 300_000},
        "tasks": [{"pattern": "^a%..*$", "started": 250}, {"pattern": "^.*$", "sent": 0, "received": 9000}],
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.b", "^a%.b$"),
        ("*", "^.*$"),
        ("a_b-c%d^$[]()+?", "^a_b%-c%%d%^%$%[%]%(%)%+%?$"),
        ("Aufgaben.ä*", "^Aufgaben%.ä.*$"),
    ],
)
def test_a_pattern_is_translated(pattern: str, expected: str) -> None:
    assert lua_pattern(pattern) == expected


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        (StuckSettings(), 300.0),
        (StuckSettings(run_time_factor=0), 3600.0),
        (StuckSettings(sent_after=20), 20.0),
        (StuckSettings(tasks={"a": TaskLimits(started_after=7, sent_after=0)}), 7.0),
        (StuckSettings(sent_after=0, received_after=0, started_after=0, run_time_factor=0), 86400.0),
        (StuckSettings(enabled=False), None),
    ],
)
def test_a_task_is_first_looked_at_when_the_least_limit_is_over(settings: StuckSettings, seconds: float | None) -> None:
    assert first_look(settings) == seconds
