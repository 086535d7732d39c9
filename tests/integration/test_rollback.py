"""A real Redis that goes back to an earlier state: an older file, no data at all, a replica that lagged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.store.duties import Duties
from tests.integration.storing import Inside, Instance
from tests.integration.test_counting import counter, samples
from tests.integration.test_losses import Worker, lost
from tests.integration.test_stuck import STARTED, Leader, ago, finished, held, make_due
from tests.support.process import wait_until
from tests.support.services import PrivateRedis
from tests.unit.builders import TIME, UUID, event


class Files:
    """What a Redis had on disk at a moment."""

    def __init__(self, server: PrivateRedis) -> None:
        self._server = server
        self._kept = Path(f"{server.dir}-kept")

    def keep(self) -> None:
        self._server.copy_data(self._kept)

    def put_back(self) -> None:
        self._server.kill()
        self._server.replace_data(self._kept)
        self._server.start()


@pytest.fixture
def files(own_redis: PrivateRedis) -> Iterator[Files]:
    made = Files(own_redis)
    yield made
    shutil.rmtree(made._kept, ignore_errors=True)


def test_an_older_file_is_noticed_with_how_far_it_goes_back(own_redis: PrivateRedis, files: Files) -> None:
    """Given a Redis that is killed and starts with an older file, the instance says how many of its calls are missing
    and since when, before it announces anything else, and once."""
    leader = Leader(own_redis.url())
    leader.lead()
    files.keep()
    for number in range(3):
        leader.instance.apply(event("task-received", uuid=str(number)))
    assert leader.instance.store.take_rollback() is None

    files.put_back()
    leader.instance.recover()

    told = leader.instance.store.take_rollback()
    assert told is not None
    assert told.calls == 3
    assert told.since is not None
    assert 0 < told.since < told.at
    leader.lead()
    assert leader.instance.store.take_rollback() is None


def test_a_redis_that_was_started_serves_since_then(own_redis: PrivateRedis) -> None:
    """Given a Redis that was started or became a primary, all instances are told when the first of them found it so."""
    one = Instance(own_redis.url()).start()
    assert one.store.served_since == 0, "there was none before"
    one.recover()
    assert one.store.served_since == 0

    with own_redis.client() as client:
        client.replicaof("127.0.0.1", 1)
        client.replicaof("NO", "ONE")
    before = one.store.token
    one.recover()
    promoted = one.store.served_since
    assert before < promoted <= one.store.token
    other = Instance(own_redis.url()).start()
    assert other.store.served_since == promoted
    with own_redis.client() as client:
        client.set(one.store.keys.served, b"foreign")
    own_redis.kill()
    own_redis.start()
    last = Instance(own_redis.url()).start()
    assert other.store.token < last.store.served_since <= last.store.token


def test_a_redis_that_does_not_say_which_one_it_is_may_be_another_one(own_redis: PrivateRedis) -> None:
    """Given a user without the right to INFO, each connection may be the first after a fail-over."""
    first = Instance(own_redis.url()).start()
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-info")
    second = Instance(own_redis.url()).start()
    assert first.store.token < second.store.served_since <= second.store.token
    before = second.store.token
    second.recover()
    assert before < second.store.served_since <= second.store.token


def lose_the_end(leader: Leader, files: Files) -> None:
    """A task ends, and Redis goes back to before that."""
    leader.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    files.keep()
    leader.instance.apply(event("task-succeeded", at=ago(1)))
    files.put_back()
    leader.instance.recover()
    leader.lead()
    make_due(Inside(leader.instance.settings.url))


def test_after_it_only_who_is_dead_is_taken_over(own_redis: PrivateRedis, files: Files) -> None:
    """Given a Redis that goes back to a state by which all leases have ended, an instance takes over the one that died
    before, a lease later, and not the one that lives.
    """
    one, two, dead = (Instance(own_redis.url(), lease=2.0).start() for _ in range(3))
    dead.apply(event("task-received"), announce=False)
    files.keep()
    inside = Inside(own_redis.url())
    last_renewed = inside.now()

    def alive(*, taken: int) -> bool:
        tokens = [one.store.token, two.store.token]
        for instance in (one, two):
            instance.clock.now += 0.1
        reports = [*two.tick().taken, *one.tick().taken]
        assert [one.store.token, two.store.token] == tokens
        assert len(reports) in (0, taken)
        return bool(reports) or taken == 0

    wait_until(lambda: alive(taken=1), what="the dead instance to be taken over")
    wait_until(lambda: alive(taken=0) and inside.now() > last_renewed + 2.5, what="the leases of then to have ended")
    files.put_back()
    one.recover()
    two.recover()

    wait_until(lambda: alive(taken=1), what="the dead instance to be taken over again")


def test_a_task_whose_end_may_be_lost_is_not_judged(own_redis: PrivateRedis, files: Files) -> None:
    """Given a task whose end was announced and is lost, it is neither asked about, nor called stuck or orphaned, nor
    reconciled; what is known of it since then is judged again."""
    leader = Leader(own_redis.url())
    leader.lead()
    leader.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    (candidate,) = leader.found()
    leader.instance.apply(event("task-received", uuid="other", at=ago(500)))
    lose_the_end(leader, files)

    assert leader.found() == []
    assert wait_until(lambda: leader.lead() and leader.tasks.confirm(0, [(candidate, held())]) is not None)
    assert leader.confirm((candidate, held()), (candidate, finished())) == []
    leader.instance.apply(event("task-retried", at=ago(-1)), event("task-received", at=ago(-2), retries=1))
    make_due(Inside(leader.instance.settings.url))
    assert leader.found() == []  # it is not overdue yet, but its time counts again
    assert {item.entry.event.type for item in leader.instance.emitted} >= {"task-succeeded", "task-retried"}


def test_events_of_what_is_lost_do_not_count_as_lost(own_redis: PrivateRedis, files: Files) -> None:
    """Given a worker under load whose starts of some seconds the store has lost, nothing is reported; what is lost once
    the account is known again is."""
    one = counter(own_redis.url())
    one.store.tick(b"{}", [], watermark_age=0.0)
    worker = Worker()
    one.apply([worker.online()])
    for _ in range(4):
        one.apply(worker.spell(10))
    assert lost(one) == {}
    files.keep()
    for _ in range(3):
        one.apply(worker.spell(10))
    files.put_back()
    one.recover()
    for spells in (1, 18):
        for _ in range(spells):
            one.apply(worker.spell(10))
        assert lost(one) == {}
    one.apply(worker.spell(10)[4:])
    for runs in (10, 0, 0):
        one.apply(worker.spell(runs))

    assert lost(one) == {worker.name: 4}


def numbers(one: Instance) -> dict[bytes, int]:
    """What it has counted, by field."""
    raw = one.store.counts.read().raw
    return dict(zip(raw[::2], map(int, raw[1::2]), strict=True))


def test_counts_are_raised_to_what_they_were(own_redis: PrivateRedis, files: Files) -> None:
    """Given counts that were exported and are lost, they are stored again, and go on from there."""
    one = counter(own_redis.url())
    one.apply(*(event("task-received", uuid=str(number)) for number in range(3)))
    files.keep()
    one.apply(*(event("task-received", uuid=str(number)) for number in range(3, 8)))
    exported = numbers(one)
    files.put_back()
    one.recover()
    fallen = one.store.counts.read().less_than(exported)
    assert fallen

    one.store.counts.restore(fallen)
    one.apply(event("task-received", uuid="new"))

    assert one.store.counts.read().less_than(exported) == {}
    assert samples(one).sums("celery_task_received_total", by="name") == {"shop.pay": 9}


def test_a_redis_that_lost_everything_is_noticed_when_an_instance_registers(own_redis: PrivateRedis) -> None:
    """Given FLUSHALL under an instance, it registers anew, and says that the store has nothing; workers that it knew
    are not called lost."""
    leader = Leader(own_redis.url())
    leader.instance.apply(event("worker-heartbeat"))
    with own_redis.client() as client:
        client.flushall()
    with pytest.raises(LeaseLost):
        leader.lead()
    leader.instance.start()

    told = leader.instance.store.take_rollback()
    assert told is not None
    assert told.since is None
    assert leader.lead()
    assert Duties(leader.instance.store).losses() == []


@pytest.fixture
def replica(own_redis: PrivateRedis) -> Iterator[PrivateRedis]:
    with PrivateRedis() as server:
        server.follow(own_redis)
        yield server


def until_replicated(primary: PrivateRedis, replica: PrivateRedis) -> None:
    with primary.client() as client, replica.client() as other:

        def is_level() -> bool:
            offsets = [one.info("replication")["master_repl_offset"] for one in (client, other)]
            return offsets[0] == offsets[1]

        wait_until(is_level, what="the replica to have all")


def fail_over(leader: Leader, server: PrivateRedis) -> None:
    """The instance connects to another Redis, as with a sentinel, which names the new one."""
    leader.instance.store._connection._settings = Leader(server.url()).instance.settings
    leader.instance.recover()


@pytest.mark.parametrize("lags", [False, True], ids=["has all", "lags"])
def test_a_fail_over_is_noticed_if_the_replica_lagged(
    own_redis: PrivateRedis, replica: PrivateRedis, lags: bool
) -> None:
    """Given a replica that becomes the primary, it is noticed whether it had all that the old one had confirmed."""
    leader = Leader(own_redis.url())
    leader.lead()
    until_replicated(own_redis, replica)
    with replica.client() as client:
        if lags:
            client.replicaof("NO", "ONE")
        leader.instance.apply(*(event(kind, at=TIME) for kind in STARTED))
        if not lags:
            until_replicated(own_redis, replica)
            client.replicaof("NO", "ONE")

    fail_over(leader, replica)

    told = leader.instance.store.take_rollback()
    assert (told is not None) is lags
    assert (leader.instance.store.went_back_at > 0) is lags
    again = leader.instance.apply(*(event(kind, at=TIME) for kind in STARTED)).new
    assert again == (len(STARTED) if lags else 0)


def test_only_what_is_missing_is_a_rollback(own_redis: PrivateRedis) -> None:
    """Given a Redis that is killed and comes back with everything, nothing is said."""
    leader = Leader(own_redis.url())
    leader.instance.apply(event("task-received", uuid=UUID))
    own_redis.kill()
    own_redis.start()
    with pytest.raises(StoreUnavailable):
        leader.lead()
    leader.instance.recover()

    assert leader.instance.store.take_rollback() is None
    assert leader.instance.store.went_back_at == 0
