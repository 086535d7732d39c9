"""Redis: the documented rules are enough, each is needed, and they allow nothing that harms others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import redis.exceptions

from ha_monitor.backend.results import ResultBackend
from ha_monitor.broker import task_query
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.check.findings import Severity
from ha_monitor.check.online import check_broker, check_store
from ha_monitor.cli.main import main
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config
from ha_monitor.config.schema import ResultBackend as Results
from ha_monitor.errors import BrokerUnavailable, StoreUnavailable
from ha_monitor.store.keys import Keys
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.tail import TailEvent
from tests.integration.rights_uses import EVENT, Uses, failures, refused, uses_of
from tests.integration.storing import NODE, Inside, Instance, settings
from tests.support.celery_app import make_app
from tests.support.recording import publish
from tests.support.rights import (
    PASSWORD,
    broker_rules,
    reader_rules,
    results_rules,
    store_rules,
)
from tests.support.services import PrivateRedis
from tests.support.threads import plain_threads
from tests.support.workers import CeleryWorker
from tests.unit.builders import TIME, event

HARMFUL = [
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["CONFIG", "GET", "*"],
    ["CONFIG", "SET", "dir", "/"],
    ["KEYS", "*"],
    ["DEBUG", "SLEEP", "1"],
    ["SHUTDOWN"],
    ["ACL", "LIST"],
    ["MONITOR"],
    ["SWAPDB", "0", "1"],
    ["SCRIPT", "FLUSH"],
    ["FUNCTION", "FLUSH"],
    ["FUNCTION", "LOAD", "#!lua name=x\n"],
    ["REPLICAOF", "127.0.0.1", "1"],
    ["CLIENT", "KILL", "TYPE", "normal"],
    ["GET", "celery"],
    ["DEL", "celery"],
    ["LPUSH", "celery", "x"],
    ["LRANGE", "celery", "0", "1"],
    ["PUBLISH", "/0.celeryev/task.sent", "x"],
    ["PUBLISH", "/1.celery.pidbox", "x"],
    ["SUBSCRIBE", "other"],
]
WHAT_EVENTS_NEED = ["PUBLISH", "/0.celeryev/task.sent", "x"]
"""Redis knows one right on a channel, to publish and to subscribe."""


class Trial:
    """A user whose rules a test sets."""

    def __init__(self, server: PrivateRedis) -> None:
        self._server = server

    def set(self, rules: list[str]) -> None:
        with self._server.client() as client:
            client.execute_command("ACL", "SETUSER", "trial", "reset", "on", f">{PASSWORD}", *rules)

    def url(self, db: int) -> str:
        return f"redis://trial:{PASSWORD}@127.0.0.1:{self._server.port}/{db}"

    def may(self, command: list[str]) -> bool:
        with self._server.client() as client:
            return client.execute_command("ACL", "DRYRUN", "trial", *command) == "OK"


@pytest.fixture
def trial(redis_server: PrivateRedis) -> Iterator[Trial]:
    yield Trial(redis_server)
    with redis_server.client() as client:
        client.execute_command("ACL", "DELUSER", "trial")


def without(rules: list[str], rule: str) -> list[str]:
    return [one for one in rules if one != rule]


def store_uses(url: str) -> Uses:
    """All that is done on the store."""
    reader = StoreReader(settings(url, prefix="ha-monitor"), NODE)

    def instance() -> None:
        one = Instance(url).start()
        one.apply([event("task-received"), event("task-started", at=TIME + 1)])
        one.tick(b"sample")
        one.recover()
        one.store.unregister()
        one.store.close()

    def status() -> None:
        reader.connect()
        try:
            reader.instances()
            reader.workers(late_after=10.0)
            reader.counts()
        finally:
            reader.close()

    def check() -> None:
        if found := failures(check_store(Config(store=settings(url)))):
            raise StoreUnavailable(found[0])

    return {"instance": instance, "status": status, "check": check}


def db_of(url: str) -> int:
    return int(url.rpartition("/")[2])


def test_the_documented_rules_are_enough_for_the_store(trial: Trial, store_url: str) -> None:
    """Given a user with the documented rules, instances, status and check work."""
    trial.set(store_rules())

    assert refused(store_uses(trial.url(db_of(store_url)))) == {}


def test_without_the_right_to_ask_redis_about_itself_an_instance_works(trial: Trial, store_url: str) -> None:
    """Given the documented rules but for `+info`, as some hosts forbid it, nothing fails, not even for who leads; the
    check names the right, and what it cannot see without."""
    trial.set(without(store_rules(), "+info"))
    url = trial.url(db_of(store_url))

    assert refused(store_uses(url)) == {}
    assert Instance(url).start().store.info().risks == []
    warnings = [one.text for one in check_store(Config(store=settings(url))) if one.severity is Severity.WARNING]
    assert [text.partition("; grant it: ")[0] for text in warnings] == [
        "its version, memory, disk and replicas cannot be checked: user trial may not run INFO"
    ]


@pytest.mark.parametrize("rule", [rule for rule in store_rules() if not rule.startswith("-") and rule != "+info"])
def test_each_rule_of_the_store_is_needed_and_named_where_it_is_missing(
    trial: Trial, store_url: str, rule: str
) -> None:
    """Given the documented rules but for one, something is refused: the line names it, and the rules that grant it."""
    trial.set(without(store_rules(), rule))

    (reason,) = refused(store_uses(trial.url(db_of(store_url)))).values()

    told = re.search(r"user trial may not (run [A-Z ]+|use the keys \S+); grant it: ACL SETUSER trial (.*)", reason)
    assert told, reason
    assert told[2].split() == store_rules()
    if rule.startswith("+") and "@" not in rule:
        assert told[1] == f"run {rule[1:].upper().replace('|', ' ')}"
    if rule.startswith("~"):
        assert told[1] == f"use the keys {rule[1:]}"


def test_a_user_who_only_reads_can_ask(
    trial: Trial, store_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a user with the documented rules for reading, the commands that ask work, and the tail does; the user can
    change nothing, but for the key that says that somebody looks."""
    trial.set(reader_rules())
    one = Instance(store_url).start()
    now = Inside(store_url).now()
    one.apply([event("task-sent", at=now, queue="mail"), event("task-received", at=now + 1)])
    monkeypatch.setenv("HA_MONITOR_STORE_URL", trial.url(db_of(store_url)))
    monkeypatch.setenv("HA_MONITOR_NODE_ID", NODE)

    asking = (["tasks"], ["errors"], ["names"], ["queues"], ["queues", "mail"], ["dead-letters"], ["workers"])
    for command in asking:
        assert main(command) == 0, command
    assert "mail" in capsys.readouterr().out
    reader = StoreReader(settings(trial.url(db_of(store_url))), NODE)
    reader.connect()
    tail = reader.tail(SystemClock())
    tail.begin()
    one.apply(event("task-started", at=now + 2))
    (shown,) = tail.read(1.0)
    assert isinstance(shown, TailEvent)
    assert shown.entry.event.type == "task-started"
    assert shown.who["instance"] == "1"

    keys = Keys("ha-monitor", NODE)
    refused = [["SET", keys.leader, "1"], ["DEL", keys.tail], ["XADD", keys.tail, "*", "a", "b"], ["SET", "other", "1"]]
    assert [command for command in [*HARMFUL, *refused] if trial.may(command)] == []
    assert trial.may(["SET", keys.tail_wanted, "1"])


@pytest.mark.parametrize(("rules", "allowed"), [(store_rules(), []), (broker_rules(), [WHAT_EVENTS_NEED])])
def test_nothing_that_harms_others_is_allowed_on_redis(
    trial: Trial, rules: list[str], allowed: list[list[str]]
) -> None:
    """Given the documented rules, no server can be emptied, stopped, spied out or changed, nor others' keys be used;
    each of the rules that take something away is needed for that.
    """
    trial.set(rules)
    assert [command for command in HARMFUL if trial.may(command)] == allowed

    for rule in (rule for rule in rules if rule.startswith("-")):
        trial.set(without(rules, rule))
        assert [command for command in HARMFUL if trial.may(command)] != allowed, rule


@pytest.fixture(scope="module")
def redis_worker(redis_server: PrivateRedis) -> Iterator[tuple[int, str]]:
    """A worker on a database of its own, which no other test uses."""
    with CeleryWorker(redis_server.url(0), "rights", pool="solo") as worker:
        yield 0, worker.nodename
    with redis_server.client(0) as client:
        client.flushdb()


@pytest.fixture
def redis_uses(redis_server: PrivateRedis, redis_worker: tuple[int, str], trial: Trial) -> Uses:
    db, worker = redis_worker
    config = Config(node_id="rights", broker=Broker(url=trial.url(db)))
    source = RedisSource(config, SystemClock(), plain_threads())
    uses = dict(uses_of(config, source, lambda: publish(redis_server.url(db), [EVENT]), worker))

    def check() -> None:
        if found := failures(check_broker(config)):
            raise BrokerUnavailable(found[0])

    return {**uses, "check of the broker": check}


def overdue_bindings_of_another_program(server: PrivateRedis, db: int) -> None:
    """What kombu leaves of a program that ended, and lets whoever comes next clear away."""
    with server.client(db) as client:
        client.zadd("_kombu.binding_deadlines", {"gone": 1})
        client.sadd("_kombu.binding.gone", "x")


def test_the_documented_rules_are_enough_for_a_broker(
    trial: Trial, redis_uses: Uses, redis_server: PrivateRedis
) -> None:
    """Given a user with the documented rules on a Redis that is the broker, everything works."""
    overdue_bindings_of_another_program(redis_server, 0)
    trial.set(broker_rules())

    assert refused(redis_uses) == {}


@pytest.mark.parametrize("rule", [rule for rule in broker_rules() if not rule.startswith("-")])
def test_each_rule_of_a_broker_is_needed_and_named_where_it_is_missing(
    trial: Trial, redis_uses: Uses, redis_server: PrivateRedis, caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    """Given the documented rules but for one, something is refused: the line names it, and the rules that grant it."""
    with redis_server.client() as client:
        client.script_flush()
    trial.set(without(broker_rules(), rule))

    found = refused(redis_uses)

    if rule == "+script|exists":
        # kombu goes on without, and complains of it in the log with a traceback, over and over.
        assert found == {}
        assert "no permissions to run the 'script|exists' command" in caplog.text
        return
    (reason,) = found.values()
    assert "user trial may not " in reason, reason
    granted = reason.partition("grant it: ACL SETUSER trial ")[2]
    assert granted.replace('"', "") == " ".join(broker_rules())
    if rule.startswith("&"):
        assert "may not use the channels /0.celeryev/* /0.celery.pidbox" in reason


def test_the_monitor_leaves_alone_what_workers_hold(trial: Trial, redis_uses: Uses, redis_server: PrivateRedis) -> None:
    """Given a task that a worker has held for longer than kombu's visibility_timeout, asking does not put it back: that
    is the workers' own affair.
    """
    trial.set(broker_rules())
    with redis_server.client(3) as client:
        client.zadd("unacked_index", {"tag": 1})
        client.hset("unacked", "tag", '[{"body": "x", "properties": {}}, "", "untouched"]')
    trial.set([rule.replace("/0.", "/3.") for rule in broker_rules()])
    config = Config(broker=Broker(url=trial.url(3), transport_options={"unacked_key": "unacked"}))

    task_query.query_tasks(config, ["no such task"])

    with redis_server.client(3) as client:
        assert client.hgetall("unacked") != {}
        assert client.llen("untouched") == 0
        client.flushdb()


@pytest.mark.parametrize("missing", [None, *(rule for rule in results_rules() if not rule.startswith("-"))])
def test_each_rule_of_a_result_backend_is_needed(trial: Trial, result_url: str, missing: str | None) -> None:
    """Given the documented rules, results are read; but for one, the line names it, and the rules that grant it."""
    app = make_app("memory://", result_url)
    app.backend.store_result("a", 42, "SUCCESS")
    trial.set(without(results_rules(), missing or ""))
    backend = ResultBackend(Config(result_backend=Results(url=trial.url(db_of(result_url)))).result_backend)

    found = refused({"results": lambda: backend.results(["a"])})

    if missing is None:
        assert found == {}
        assert [command for command in HARMFUL if trial.may(command)] == []
        assert not trial.may(["SET", "celery-task-meta-a", "x"])
    else:
        assert "user trial may not " in found["results"]
        assert found["results"].endswith(f"grant it: ACL SETUSER trial {' '.join(results_rules())}")


def test_a_right_that_is_taken_away_meanwhile_is_named(trial: Trial, store_url: str) -> None:
    """Given a running instance whose user loses a right, the next call says which; with it, the instance goes on."""
    trial.set(store_rules())
    instance = Instance(trial.url(db_of(store_url))).start()
    trial.set(without(store_rules(), "+time"))

    with pytest.raises(StoreUnavailable, match="user trial may not run TIME; grant it: ACL SETUSER trial "):
        instance.tick()

    trial.set(store_rules())
    instance.recover()
    instance.tick()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: url.replace(PASSWORD, "hunter2"), "the user name or password in broker.url is wrong"),
        (lambda url: url.replace(f"trial:{PASSWORD}@", ""), "Redis requires a password in broker.url"),
    ],
)
def test_a_redis_broker_with_a_password(own_redis: PrivateRedis, change: Callable[[str], str], says: str) -> None:
    """Given a broker that wants a password, each way of not having it is said."""
    with own_redis.client() as client:
        client.config_set("requirepass", "secret")
    trial = Trial(own_redis)
    config = Config(broker=Broker(url=change(trial.url(0))))

    with pytest.raises(BrokerUnavailable, match=says) as caught:
        RedisSource(config, SystemClock(), plain_threads()).connect()

    assert "hunter2" not in str(caught.value)
    assert says in failures(check_broker(config))[0]


def test_a_rule_that_redis_does_not_know_would_be_noticed(redis_server: PrivateRedis, trial: Trial) -> None:
    """Given a wrong rule, setting it fails: the documented ones are Redis's own."""
    with pytest.raises(redis.exceptions.ResponseError):
        trial.set([*store_rules(), "+@nonsense"])
    trial.set(store_rules())
