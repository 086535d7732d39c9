"""`ha-monitor check --store` over a real Redis: what the indexes say of tasks is what their records say."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ha_monitor.cli.main import main
from ha_monitor.config.schema import StuckSettings
from ha_monitor.store.agreement import Agreement, Disagreement
from ha_monitor.store.connection import StoreConnection
from tests.integration.storing import NODE, Inside, Instance
from tests.support.rights import as_monitor
from tests.unit.builders import TurnedClock, event


@pytest.fixture
def one(store_url: str) -> Instance:
    """An instance that has merged tasks of all kinds."""
    one, at = Instance(store_url).start(), time.time() - 500
    one.apply(
        event("task-sent", at=at, uuid="waits", queue="mail"),
        event("task-sent", at=at, uuid="runs", queue="mail", root_id="root"),
        event("task-started", at=at, uuid="runs"),
        event("task-received", at=at, uuid="failed"),
        event("task-failed", at=at, uuid="failed", exception="E()"),
        event("task-received", at=at, uuid="done", root_id="root"),
        event("task-succeeded", at=at, uuid="done"),
    )
    one.tick()
    return one


def found(one: Instance, inside: Inside, *, keeps_open: bool = True) -> list[Disagreement]:
    connection = StoreConnection(one.settings)
    connection.connect()
    try:
        ttl = one.settings.failure_ttl
        agreement = Agreement(connection, inside.keys, TurnedClock(), failure_ttl=ttl, keeps_open=keeps_open)
        return agreement.disagreements(lambda _done, _total: None)
    finally:
        connection.close()


Breaks = Callable[[Inside], object]
BROKEN: dict[str, tuple[Breaks, str]] = {
    "a failure left out": (lambda i: i.redis.zrem(i.keys.ended_badly, "failed"), "not in ended-badly"),
    "a success as a failure": (lambda i: i.redis.zadd(i.keys.ended_badly, {"done": 16 * 10**12 + 7}), "in ended-badly"),
    "a wait left out": (lambda i: i.redis.zrem(i.keys.waits, "waits"), "not in waits"),
    "a wait that is over": (lambda i: i.redis.zadd(i.keys.waits, {"runs": 1}), "in waits, though"),
    "a wait since another time": (lambda i: i.redis.zincrby(i.keys.waits, 1000, "waits"), "in waits with another"),
    "a task of another name": (lambda i: i.redis.rpush(i.keys.newest("other"), "done"), "has another name"),
    "a task left out of its name": (lambda i: i.redis.lrem(i.keys.newest("shop.pay"), 0, "done"), "not in"),
    "a child of another root": (lambda i: i.redis.rpush(i.keys.children("x"), "done"), "another name or root"),
    "a task that no worker had as left": (
        lambda i: i.redis.zadd(i.keys.abandoned, {"8:celery@awaits": 1}),
        "in abandoned, though no worker ever had it",
    ),
    "a child left out": (lambda i: i.redis.lrem(i.keys.children("root"), 0, "done"), "not in"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_an_index_says_wrongly_is_found(one: Instance, inside: Inside, kind: str) -> None:
    """Given records and indexes that instances wrote, they agree; and one wrong entry is told of, with the task."""
    assert found(one, inside, keeps_open=False) == []
    breaks, text = BROKEN[kind]
    breaks(inside)

    (told,) = found(one, inside, keeps_open=False)

    assert text in told.what
    assert told.task_id in ("failed", "done", "waits", "runs")


def test_the_open_tasks_are_those_that_are_not_finished(store_url: str, inside: Inside) -> None:
    """Given the index of open tasks, one that is missing and one that has ended are found; without it, nothing is."""
    one, at = Instance(store_url, stuck=StuckSettings()).start(), time.time() - 500
    for kind, uuid in (("sent", "a"), ("sent", "b"), ("started", "b"), ("received", "c"), ("succeeded", "c")):
        one.apply(event(f"task-{kind}", at=at, uuid=uuid))
    assert found(one, inside) == []

    inside.redis.zrem(inside.keys.open, "a")
    inside.redis.zadd(inside.keys.open, {"c": 1})

    assert sorted((told.task_id, told.what) for told in found(one, inside)) == [
        ("a", "not in open, though it is not finished"),
        ("c", "in open, though it has ended"),
    ]
    inside.redis.zrem(inside.keys.open, "c")
    inside.redis.zadd(inside.keys.open, {"a": 1})
    inside.redis.zadd(inside.keys.open_since, {"a": 1, "c": 1})
    assert [(told.task_id, told.what) for told in found(one, inside)] == [("c", "in open-since and not in open")]
    inside.redis.zadd(inside.keys.open, {"c": 1})
    assert [told.task_id for told in found(one, inside, keeps_open=False)] == ["c"]


def test_a_task_that_was_sent_once_more_after_its_end_may_be_open(store_url: str, inside: Inside) -> None:
    """Given a task of which all is known, which ended after a retry, when it is sent once more under its id, then it is
    an open task again, and nothing is wrong with that.
    """
    one = Instance(store_url, stuck=StuckSettings()).start()
    began = time.time() - 500
    kinds = ["task-sent", "task-received", "task-started", "task-retried"]
    one.apply(*(event(kind, uuid="again", at=began + number) for number, kind in enumerate(kinds)))
    kinds = ["task-sent", "task-received", "task-started", "task-succeeded"]
    one.apply(*(event(kind, uuid="again", at=began + 5 + number, retries=1) for number, kind in enumerate(kinds)))
    assert inside.redis.zscore(inside.keys.open, "again") is None

    one.apply(event("task-sent", uuid="again", at=began + 100))

    assert inside.redis.zscore(inside.keys.open, "again") is not None
    assert found(one, inside) == []


def test_what_no_script_wrote_stops_nothing(one: Instance, inside: Inside) -> None:
    """Given entries of bytes that are no text, endless scores and a record that is none, the rest is looked at."""
    inside.redis.zadd(inside.keys.ended_badly, {b"\xff\x00": 1, "failed": "inf"})
    inside.redis.zadd(inside.keys.waits, {b"\xff": "-inf", "waits": "inf"})
    inside.redis.rpush(inside.keys.newest("other"), b"\xfe")
    inside.redis.set(inside.keys.task("").encode() + b"\xff", b"\x00")

    told = {(one.task_id, one.what) for one in found(one, inside, keeps_open=False)}

    assert told == {
        ("failed", "in ended-badly, though it ended differently"),
        ("waits", "in waits with another queue or time"),
    }


def test_what_expired_is_in_no_way_wrong(one: Instance, inside: Inside) -> None:
    """Given entries of which the records have expired, and that were not swept yet, nothing is told."""
    for task_id in ("waits", "runs", "failed", "done"):
        inside.redis.delete(inside.keys.task(task_id))

    assert found(one, inside) == []


def test_the_command_says_how_much_agrees(
    one: Instance, inside: Inside, store_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given the command, with the rights of the monitor's own user, it says what was looked at, and fails with the
    tasks that an index has wrong."""
    monkeypatch.setenv("HA_MONITOR_STORE_URL", as_monitor(store_url))
    monkeypatch.setenv("HA_MONITOR_NODE_ID", NODE)
    monkeypatch.setenv("HA_MONITOR_STUCK_ENABLED", "false")
    monkeypatch.setattr("ha_monitor.store.agreement.PAUSE", 0.0)
    assert main(["check", "--store"]) == 0
    assert "ok       records: 4 records and 10 entries of indexes agree" in capsys.readouterr().out

    inside.redis.zrem(inside.keys.ended_badly, "failed")

    assert main(["check", "--store"]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert told == [
        "failed   records: task failed is not in ended-badly, though it ended badly",
        "failed   records: 1 entries do not agree with the records of 4 tasks, so lists may miss or repeat them; "
        "please report it with the lines above",
    ]
