"""The record of a task: its state, derived from the merged facts."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from ha_monitor.events.catalogue import Code, State
from ha_monitor.events.error_group import group_id
from ha_monitor.events.model import Event
from ha_monitor.events.types import ENDS, TASK_CODES


class Facts(Struct, frozen=True, omit_defaults=True, gc=False):
    """The merged facts of a task. `store/lua/record.lua` says what each means; times are in µs since the epoch."""

    name: str | None = field(name="n", default=None)
    arguments: str | None = field(name="a", default=None)
    keyword_arguments: str | None = field(name="k", default=None)
    root_id: str | bool | None = field(name="r", default=None)
    parent_id: str | None = field(name="p", default=None)
    eta: int | None = field(name="e", default=None)
    is_other_id: bool = field(name="o", default=False)
    sent: int | None = field(name="st", default=None)
    queue: str | None = field(name="q", default=None)
    received_count: int = field(name="rc", default=0)
    received: int | None = field(name="rl", default=None)
    started_count: int = field(name="sc", default=0)
    started: int | None = field(name="sl", default=None)
    retried_count: int = field(name="xc", default=0)
    retried: int | None = field(name="xl", default=None)
    requeued_count: int = field(name="jc", default=0)
    worker: str | None = field(name="w", default=None)
    retries: int = field(name="re", default=0)
    finished_count: int = field(name="tc", default=0)
    finish: int | None = field(name="tk", default=None)
    finished: int | None = field(name="tt", default=None)
    runtime: float | None = field(name="rt", default=None)
    exception: str | None = field(name="ex", default=None)
    fingerprint: str | None = field(name="g", default=None)
    """Of the error of the end that counts."""
    retry_errors: list[tuple[int, str]] = field(name="gr", default_factory=list)
    """Times of the last retries for an exception, and their fingerprints."""
    queue_wait: int | None = field(name="qw", default=None)
    """The wait of the event's run, in µs, as `store/lua/runs.lua` computed it."""
    marks: list[int] = field(name="sh", default_factory=list)
    """Of the events merged before the record shrank (`store/lua/briefs.lua`); empty if it did not."""
    reconciled: int | None = field(name="z", default=None)
    """The end that was found in the result backend, until its event comes."""


class WrongClocks(Struct, frozen=True):
    """The part of a record about times from wrong clocks, as in `lua/sender_clocks.lua`."""

    latest: int | None = field(name="cm", default=None)
    """The latest step of the task, in ms by Redis's clock; None if no clock was found to be wrong."""
    given: list[tuple[int, ...]] = field(name="ck", default_factory=list)
    """Times in µs from wrong clocks, each with the ms by which its clock is behind, if that is known."""

    def queued_at(self, sent: int, retried: int) -> int:
        """When a task last came into its queue, in µs by Redis's clock.

        :param sent: and :param retried: in µs, by the senders' clocks; 0 if it was not.
        """
        if self.latest is None:
            return max(sent, retried)
        skews = dict(one if len(one) == 2 else (one[0], None) for one in self.given if one)
        skew = None if retried else skews.get(sent, 0)
        return self.latest * 1000 if skew is None else sent + skew * 1000


class TaskRecord(Struct, frozen=True, kw_only=True):
    """What all instances together know about a task. Times are in seconds since the epoch, durations in seconds.

    A handler gets what is known of the run that its event is about: a task may run several times under one id.
    """

    task_id: str
    state: State
    name: str | None = None
    queue: str | None = None
    args: str | None = None
    """Only with `log.arguments`, redacted."""
    kwargs: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    eta: float | None = None
    worker: str | None = None
    """The worker that last received or started it."""
    retries: int = 0
    runs: int = 0
    """How often it was started; more than retries + 1 means that it was redelivered."""
    sent: float | None = None
    received: float | None = None
    started: float | None = None
    finished: float | None = None
    runtime: float | None = None
    queue_time: float | None = None
    """From when it was sent (without task-sent: received), or a later eta, to the start of the event's run."""
    exception: str | None = None
    error_group: str | None = None
    """Of the failure, if it failed."""
    retry_error_groups: list[str] = []
    """Of the last retries for an exception, at most five, the latest last."""


def state_of(facts: Facts) -> State:
    """The state that follows from the facts. A finished task stays finished, whatever comes late."""
    if facts.finish is not None:
        # A later version may know other ends.
        return end.state if (end := ENDS.get(facts.finish)) is not None else State.UNKNOWN
    closed = facts.retried_count + facts.requeued_count
    if closed > 0 and closed >= max(facts.received_count, facts.started_count):
        return State.RETRY
    if facts.started_count > closed:
        return State.STARTED
    if facts.received_count > closed:
        return State.RECEIVED
    return State.SENT if facts.sent is not None else State.UNKNOWN


def queue_time_of(facts: Facts) -> float | None:
    """Seconds between the moment when a worker could have started the run and its start."""
    return None if facts.queue_wait is None else facts.queue_wait / 1e6


def runtime_of(facts: Facts) -> float | None:
    """Seconds that the last run took: as the worker measured it, else from its start to the end."""
    if facts.runtime is not None:
        return facts.runtime
    end = ENDS.get(facts.finish or 0)
    return elapsed(facts, facts.finished) if end is not None and end.has_runtime else None


def elapsed(facts: Facts, ended: int | None) -> float | None:
    """Seconds from the start of the event's run to a time in µs."""
    return max(0, ended - facts.started) / 1e6 if ended and facts.started else None


def root_of(facts: Facts, task_id: str) -> str | None:
    """The id of the task at the root of its tree."""
    return task_id if facts.root_id is True else facts.root_id or None


def record_of(task_id: str, facts: Facts) -> TaskRecord:
    """Everything about a task, for handlers."""
    return TaskRecord(
        task_id=task_id,
        state=state_of(facts),
        name=facts.name,
        queue=facts.queue,
        args=facts.arguments,
        kwargs=facts.keyword_arguments,
        root_id=root_of(facts, task_id),
        parent_id=facts.parent_id,
        eta=_seconds(facts.eta),
        worker=facts.worker,
        retries=facts.retries,
        runs=facts.started_count,
        sent=_seconds(facts.sent),
        received=_seconds(facts.received),
        started=_seconds(facts.started),
        finished=_seconds(facts.finished),
        runtime=runtime_of(facts),
        queue_time=queue_time_of(facts),
        exception=facts.exception,
        error_group=group_id(facts.name, facts.fingerprint) if facts.fingerprint is not None else None,
        retry_error_groups=[group_id(facts.name, fingerprint) for _, fingerprint in facts.retry_errors],
    )


def record_at(event: Event, facts: Facts) -> TaskRecord:
    """Everything about the task of an event, for its handlers: for an end, that end and no other; for a run that came
    after an end, without that end.
    """
    code = TASK_CODES.get(event.type, Code.OTHER)
    if code is Code.REJECTED and event.fields.get("requeue") is not False:
        code = Code.REQUEUED
    time = None if event.time is None else int(event.time * 1e6)
    ended = facts.finished or 0
    if code in ENDS:
        # Celery rejects a message after the failure of the same run.
        if code is not Code.REJECTED or ended < (facts.started or 0) or facts.finish is None:
            get = event.fields.get
            facts = replace(facts, finish=code, finished=time, runtime=get("runtime"), exception=get("exception"))
            facts = replace(facts, fingerprint=event.fingerprint)
        return record_of(event.task_id or "", facts)
    state = _STATES.get(event.fields.get("phase") or code)
    if state is None or facts.finish is None or (facts.started or time or 0) <= ended:
        return record_of(event.task_id or "", facts)
    facts = replace(facts, finish=None, finished=None, runtime=None, exception=None, fingerprint=None)
    return replace(record_of(event.task_id or "", facts), state=state)


_STATES: dict[object, State] = {
    **{Code.SENT: State.SENT, Code.RECEIVED: State.RECEIVED, Code.STARTED: State.STARTED},
    **{Code.RETRIED: State.RETRY, Code.REQUEUED: State.RETRY},
    **{"sent": State.SENT, "received": State.RECEIVED, "started": State.STARTED},
}
"""The state of the run that an event is about, if the event does not end the task; texts are phases."""


def _seconds(microseconds: int | None) -> float | None:
    return microseconds / 1e6 if microseconds else None
