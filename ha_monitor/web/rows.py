"""Tasks, and remarks about an answer, for the templates: plain values, the same on all pages."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from ha_monitor.answers.result import Result
from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import first_heard, queue_time_of, runtime_of
from ha_monitor.store.queries import Gap, KeptTask
from ha_monitor.web.formatting import clock, instant

_UUID, _SHORT, _MAX_ID = 36, 8, 24
MAX_GAPS = 8
Row = dict[str, Any]


def short_id(task_id: str) -> str:
    """Enough of an id to distinguish tasks on a page."""
    if len(task_id) == _UUID and task_id.count("-") == 4:
        return task_id[:_SHORT]
    return task_id if len(task_id) <= _MAX_ID else task_id[: _MAX_ID - 1] + "…"


def task_row(task: KeptTask, now: float) -> Row:
    """A task in a list.

    :param now: seconds since the epoch.
    """
    record = task.record
    return {
        "id": record.task_id,
        "short": short_id(record.task_id),
        "state": str(record.state),
        "name": record.name,
        "sent": at(first_heard(task), now),
        "ended": at(record.finished, now),
        "ran": runtime_of(task, now),
        "running_since": at(record.started, now) if record.state is State.STARTED else None,
        "waiting_since": at(max(record.sent or record.received or 0.0, record.eta or 0.0), now)
        if record.state in (State.SENT, State.RECEIVED)
        else None,
        "waited": queue_time_of(task, now),
        "retries": record.retries,
        "queue": record.queue,
        "worker": record.worker,
        "exception": record.exception,
        "error": record.error_group,
    }


def task_rows(tasks: Sequence[KeptTask], now: float) -> list[Row]:
    return [task_row(task, now) for task in tasks]


def at(seconds: float | None, now: float, *, milliseconds: bool = False) -> Row:
    """A time, for people and for programs."""
    return {"text": clock(seconds, now, milliseconds=milliseconds), "instant": instant(seconds)}


def about(result: Result, *words: str) -> Row:
    """The command that asks the same, when it was asked, what was searched, and what the answer may lack.

    :param words: the words of the command, without `ha-monitor`.
    """
    changes = result.changes or ()
    return {
        "command": command(*words),
        "time": at(result.time, result.time),
        "searched": result.searched,
        "lacks": gap_texts(result.gaps, result.time),
        "changes": [{"what": one.what, "at": None if one.says_when else at(one.since, result.time)} for one in changes],
    }


def gap_texts(gaps: Sequence[Gap], now: float) -> list[str]:
    """What an answer may lack, in brief: the losses of one worker are summed up."""
    of_workers: dict[str, list[Gap]] = {}
    for gap in gaps:
        if gap.worker and gap.lost:
            of_workers.setdefault(gap.worker, []).append(gap)
    joined = [
        Gap(
            f"{sum(gap.lost for gap in lost):,} events of {worker}, at {len(lost)} times",
            min(gap.since for gap in lost),
            max(gap.until for gap in lost),
        )
        for worker, lost in of_workers.items()
        if len(lost) > 1
    ]
    alone = [gap for gap in gaps if len(of_workers.get(gap.worker, ())) < 2 or not gap.lost]
    texts = [gap_text(gap, now) for gap in (*joined, *alone)]
    more = len(texts) - MAX_GAPS
    return texts if more <= 1 else [*texts[:MAX_GAPS], f"and {more:,} more"]


def command(*words: str) -> str:
    """A command that can be pasted into a shell."""
    return shlex.join(["ha-monitor", *words])


def gap_text(gap: Gap, now: float) -> str:
    """What an answer may lack, as part of a sentence."""
    since, until = clock(gap.since, now), clock(gap.until, now)
    if gap.since and gap.until:
        return f"{gap.what} between {since} and {until}"
    return f"{gap.what} since {since}" if gap.since else f"{gap.what} before {until}" if gap.until else gap.what
