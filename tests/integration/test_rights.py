"""The rights that docs/operations.md names are enough, each of them is needed, and they allow nothing that harms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import amqp
import pytest
import redis.exceptions

from ha_monitor.backend.results import ResultBackend
from ha_monitor.broker import survey as surveying
from ha_monitor.broker import whereabouts
from ha_monitor.broker.amqp_source import AmqpSource
from ha_monitor.broker.control import greet_workers
from ha_monitor.broker.inspection import answering_workers, queue_state
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.broker.source import Source
from ha_monitor.check.findings import Finding, Verdict
from ha_monitor.check.online import check_broker, check_store
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config
from ha_monitor.config.schema import ResultBackend as Results
from ha_monitor.errors import BrokerUnavailable, HaMonitorError, StoreUnavailable
from ha_monitor.store.reader import StoreReader
from tests.integration.storing import NODE, Instance, settings
from tests.support.celery_app import make_app
from tests.support.process import wait_until
from tests.support.recording import Recorded, publish
from tests.support.rights import (
    PASSWORD,
    STORE_USER,
    Permissions,
    as_monitor,
    broker_rules,
    documented_permissions,
    results_rules,
    store_rules,
)
from tests.support.services import PrivateRabbitMQ, PrivateRedis
from tests.support.workers import CeleryWorker
from tests.unit.builders import TIME, event

Uses = Mapping[str, Callable[[], object]]
EVENT = Recorded("task.sent", "application/json", "utf-8", "{}")
QUEUE = "celery"
"""Of the application."""


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker here is idle, and answers at once."""
    monkeypatch.setattr(surveying, "PATIENCE", 0.5)
    monkeypatch.setattr(whereabouts, "PATIENCE", 0.5)


def uses_of(config: Config, source: Source, publish_event: Callable[[], object], worker: str) -> Uses:
    """All that an instance does on a broker."""

    def events() -> None:
        try:
            source.connect()
            publish_event()
            wait_until(lambda: source.receive(10, 0.2), 30, "the event")
            source.acknowledge(source.mark())
        finally:
            source.close()

    def asking() -> None:
        assert worker in whereabouts.ask_workers(config, ["no such task"]).answered

    def survey() -> None:
        looked = {queue.name: queue for queue in surveying.survey(config, ["other"])}
        assert looked[QUEUE].length == 0
        assert looked[QUEUE].workers == 1

    def check() -> None:
        assert worker in answering_workers(config.broker.url, config, 0.5)

    return {
        "events": events,
        "greeting": lambda: greet_workers(config.broker.url, config.broker),
        "stuck detection": asking,
        "survey": survey,
        "check of the workers": check,
        "status": lambda: queue_state(config),
    }


def refused(uses: Uses) -> dict[str, str]:
    """What cannot be done, up to the first such thing, and what is said of it."""
    for name, use in uses.items():
        try:
            use()
        except HaMonitorError as error:
            return {name: str(error)}
    return {}


# --- RabbitMQ ------------------------------------------------------------------------------


def alternatives(pattern: str) -> list[str]:
    """The names that a documented pattern allows, one by one: each way through `(a|(b)?c)`."""
    found: list[str] = []
    for part in re.split(r"\|(?![^(]*\)\?)", pattern.removeprefix("^(").removesuffix(")$")):
        optional = re.search(r"\(([^()]*)\)\?", part)
        found += [part.replace(optional[0], ""), part.replace(optional[0], optional[1])] if optional else [part]
    return found


RABBITMQ_RIGHTS = [
    (right, name) for right, pattern in documented_permissions()._asdict().items() for name in alternatives(pattern)
]


@pytest.fixture(scope="module")
def rabbit_vhost(rabbitmq: PrivateRabbitMQ) -> Iterator[str]:
    name = "rights"
    rabbitmq.add_vhost(name)
    yield name
    rabbitmq.delete_vhost(name)


@pytest.fixture(scope="module")
def rabbit_worker(rabbitmq: PrivateRabbitMQ, rabbit_vhost: str) -> Iterator[str]:
    with CeleryWorker(rabbitmq.url(rabbit_vhost), "rights", pool="solo") as worker:
        yield worker.nodename


@pytest.fixture
def rabbit_uses(rabbitmq: PrivateRabbitMQ, rabbit_vhost: str, rabbit_worker: str) -> Iterator[Uses]:
    """What the monitor's user does; afterwards it has its rights again."""
    url = rabbitmq.url(rabbit_vhost)
    config = Config(node_id="rights", broker=Broker(url=as_monitor(url)))
    yield uses_of(config, AmqpSource(config, "rights"), lambda: publish(url, [EVENT]), rabbit_worker)
    rabbitmq.set_permissions(STORE_USER, rabbit_vhost, documented_permissions())


def test_the_documented_permissions_are_enough(rabbit_uses: Uses) -> None:
    """Given a user with the documented permissions, events arrive, and the workers can be asked in every way."""
    assert refused(rabbit_uses) == {}


@pytest.mark.parametrize(("right", "name"), RABBITMQ_RIGHTS)
def test_each_permission_is_needed_and_named_where_it_is_missing(
    rabbit_uses: Uses, rabbitmq: PrivateRabbitMQ, rabbit_vhost: str, right: str, name: str
) -> None:
    """Given the documented permissions but for one, something is refused: the line names that right, what it is for,
    and the command that grants it.
    """
    less = documented_permissions()._asdict()
    less[right] = less[right].replace("^", f"^(?!{name}$)", 1)
    rabbitmq.set_permissions(STORE_USER, rabbit_vhost, Permissions(**less))

    ((use, reason),) = refused(rabbit_uses).items()

    # Nothing answers a publication: it is said all the same.
    assert (use == "greeting") == (name == r"celery\.pidbox")
    told = re.search(rf"user monitor may not {right} the \w+ (\S+) in vhost rights; grant it: (.*)", reason)
    assert told, reason
    assert re.fullmatch(name, told[1])
    assert told[2].startswith("rabbitmqctl set_permissions -p rights monitor ")
    assert all(pattern in told[2] for pattern in documented_permissions())


@pytest.mark.parametrize(
    "attempt",
    [
        lambda channel: channel.queue_declare("mine", durable=True),
        lambda channel: channel.queue_delete(QUEUE),
        lambda channel: channel.queue_purge(QUEUE),
        lambda channel: channel.queue_bind(QUEUE, "celeryev", "#"),
        lambda channel: channel.basic_get(QUEUE),
        lambda channel: channel.exchange_declare("mine", "topic"),
        lambda channel: channel.exchange_delete("celeryev"),
        lambda channel: publish_to(channel, "celeryev"),
        lambda channel: publish_to(channel, ""),
        lambda channel: publish_to(channel, "reply.celery.pidbox"),
    ],
)
def test_nothing_of_the_application_can_be_touched(
    rabbitmq: PrivateRabbitMQ, rabbit_vhost: str, rabbit_worker: str, attempt: Callable[[Any], object]
) -> None:
    """Given the documented permissions, the application's queues can be neither changed nor read, nor events forged."""
    with (
        rabbitmq.connection(rabbit_vhost, userid=STORE_USER, password=PASSWORD) as connection,
        pytest.raises(amqp.exceptions.AccessRefused),
    ):
        attempt(connection.channel())


def publish_to(channel: Any, exchange: str) -> None:
    channel.basic_publish(amqp.Message("{}"), exchange=exchange, routing_key=QUEUE)
    channel.basic_qos(0, 1, False)  # a refusal comes before the answer


def test_an_exchange_that_no_worker_has_declared_yet_is_waited_for(rabbitmq: PrivateRabbitMQ, broker_url: str) -> None:
    """Given no worker so far, the line says what is waited for; with the exchange the same instance connects."""
    config = Config(broker=Broker(url=as_monitor(broker_url)))
    source = AmqpSource(config, "early")
    with pytest.raises(BrokerUnavailable, match="does not exist yet; the first worker that starts declares it"):
        source.connect()
    with rabbitmq.connection(broker_url.rpartition("/")[2]) as connection:
        connection.channel().exchange_declare("celeryev", "topic", durable=True, auto_delete=False)

    source.connect()

    source.close()


def test_a_vhost_that_may_not_be_used_is_named(rabbitmq: PrivateRabbitMQ, broker_url: str) -> None:
    """Given a user without any right in the virtual host, the line says so, with the command."""
    vhost = broker_url.rpartition("/")[2]
    rabbitmq.ctl("clear_permissions", "-p", vhost, STORE_USER)

    with pytest.raises(
        BrokerUnavailable, match=f"user monitor may not use the vhost {vhost}; grant it: rabbitmqctl set"
    ):
        AmqpSource(Config(broker=Broker(url=as_monitor(broker_url))), "no vhost").connect()


def failures(findings: Iterator[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.verdict is Verdict.FAILED]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("right", "name"), [("configure", r"celeryev\..*"), ("write", r"celeryev\..*"), ("read", r"celeryev\..*")]
)
def test_the_check_finds_a_missing_permission_and_changes_nothing(
    rabbitmq: PrivateRabbitMQ, broker_url: str, right: str, name: str, exists: bool
) -> None:
    """Given a queue with a message, or none, and a permission that is missing, `check --online` names it; without one
    missing it finds nothing. The queue stays as it is.
    """
    vhost = broker_url.rpartition("/")[2]
    config = Config(broker=Broker(url=as_monitor(broker_url)))
    if exists:
        with rabbitmq.connection(vhost) as connection:
            connection.channel().exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        source = AmqpSource(config, "first")
        source.connect()
        source.close()
        publish(broker_url, [EVENT])
    assert failures(check_broker(config)) == []
    less = documented_permissions()._asdict()
    less[right] = less[right].replace("^", f"^(?!{name}$)", 1)
    rabbitmq.set_permissions(STORE_USER, vhost, Permissions(**less))

    (reason,) = failures(check_broker(config))

    assert f"user monitor may not {right} the queue celeryev.ha-monitor in vhost {vhost}; grant it: " in reason
    with rabbitmq.connection(vhost) as connection:
        channel = connection.channel()
        if exists:
            message = channel.basic_get("celeryev.ha-monitor")
            assert message.delivery_info["redelivered"] is False
        else:
            with pytest.raises(amqp.exceptions.NotFound):
                channel.queue_declare("celeryev.ha-monitor", passive=True)


# --- Redis ---------------------------------------------------------------------------------

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
        one.store.leave()
        one.store.close()

    def status() -> None:
        reader.connect()
        try:
            reader.instances()
            reader.workers()
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


GRANTED = "user trial may not {missing}; grant it: ACL SETUSER trial "


@pytest.mark.parametrize("rule", [rule for rule in store_rules() if not rule.startswith("-")])
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
    source = RedisSource(config, "rights", SystemClock())
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

    whereabouts.ask_workers(config, ["no such task"])

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
        (lambda url: url.replace(f"trial:{PASSWORD}@", ""), "Redis wants a password in broker.url"),
    ],
)
def test_a_redis_broker_with_a_password(own_redis: PrivateRedis, change: Callable[[str], str], says: str) -> None:
    """Given a broker that wants a password, each way of not having it is said."""
    with own_redis.client() as client:
        client.config_set("requirepass", "secret")
    trial = Trial(own_redis)
    config = Config(broker=Broker(url=change(trial.url(0))))

    with pytest.raises(BrokerUnavailable, match=says) as caught:
        RedisSource(config, "no password", SystemClock()).connect()

    assert "hunter2" not in str(caught.value)
    assert says in failures(check_broker(config))[0]


def test_a_rule_that_redis_does_not_know_would_be_noticed(redis_server: PrivateRedis, trial: Trial) -> None:
    """Given a wrong rule, setting it fails: the documented ones are Redis's own."""
    with pytest.raises(redis.exceptions.ResponseError):
        trial.set([*store_rules(), "+@nonsense"])
    trial.set(store_rules())
