"""One world: hosts with the monitor, a broker, a store, producers and workers, and faults; all of it from one seed."""

from __future__ import annotations

import random as global_random
from random import Random

from msgspec.structs import replace

from ha_monitor.config.schema import BatchSettings
from ha_monitor.store.memory.server import MemoryServer
from tests.simulation.broker import HEARTBEAT, Client, PubSubBroker, QueueBroker
from tests.simulation.clock import START, HostClock, Timeline
from tests.simulation.faults import plan
from tests.simulation.hosts import CONFIG, Host, Process
from tests.simulation.invariants import BACK_WITHIN, QUIET_FOR, Watch
from tests.simulation.workers import Load

FAULTS_FOR = 20.0
"""Seconds within which faults begin."""
DETAIL_TTL = 1.0
"""Of some worlds: less than what many faults take."""


class World:
    """Run it once."""

    def __init__(self, seed: int, *, detailed: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.timeline = Timeline()
        self.current: Process | None = None
        self.store_fault: str | None = None
        self.fail_overs = 0
        """How often all connections to the store were broken."""
        self.may_lose_leases = False
        """Something happened after which one instance may take another's outbox over."""
        self.worker_clocks_stepped = False
        self.faults = 0
        """How many there are."""
        is_queue = self.random.random() < 0.75
        self.broker = QueueBroker(self.timeline) if is_queue else PubSubBroker(self.timeline)
        self.prefetch = self.random.choice([4, 12, 40])
        self.store_clock = HostClock(self.timeline)
        self.server = MemoryServer(self.store_clock)
        self.server.requeue_delay = 3 * HEARTBEAT + 2 if is_queue else 0.0
        self.server.trouble = self._store_moment
        # Of its own: worlds whose store is near are the same whether there are others or not.
        distance = Random(f"distance {seed}")
        self.is_store_far = distance.random() < 0.25
        self.config = CONFIG
        if self.is_store_far:
            self.server.is_slow = True
            self.server.answers = lambda: distance.random() < 0.3
            self.server.merges_early = lambda: distance.random() < 0.5
            self.server.most_tasks = distance.choice([None, 3])
            self.config = replace(CONFIG, batch=BatchSettings(events=distance.choice([3, 40]), time=0.02))
        if Random(f"details {seed}").random() < 0.3:
            self.config = replace(self.config, store=replace(self.config.store, detail_ttl=DETAIL_TTL))
        self.watch = Watch(self)
        self.watch.detailed = detailed
        self.load = Load(self.timeline, self.broker, self.random, workers=self.random.choice([2, 3]))
        if isinstance(self.broker, PubSubBroker):
            self.broker.received = self._received
        self.hosts = [Host(self, f"m{number}") for number in range(1, self.random.choice([2, 2, 3]) + 1)]
        self.healthy_at = START
        self.watch.note(
            f"{'a queue' if is_queue else 'pub/sub'}, {len(self.hosts)} hosts, {len(self.load.workers)} workers, "
            f"prefetch {self.prefetch}{', a distant store' if self.is_store_far else ''}"
            f"{', records that shrink' if self.config.store.detail_ttl else ''}"
        )

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.timeline.now - START

    def since(self, at: float) -> float:
        return at - START

    def run(self) -> list[str]:
        """Run it; returns what went wrong."""
        global_random.seed(self.seed)  # the jitter of pauses
        for host in self.hosts:
            host.start()
        self.load.schedule(self.random.choice([8, 16, 24]), FAULTS_FOR)
        plan(self)
        self._look()
        self.timeline.run_until(START + FAULTS_FOR, self._is_wrong)
        self.timeline.run_until(max(self.timeline.now, self.healthy_at), self._is_wrong)
        self._come_to_rest()
        if not self._is_wrong():
            self.watch.check_end()
        return self.watch.violations

    def _is_wrong(self) -> bool:
        return bool(self.watch.violations)

    def _come_to_rest(self) -> None:
        limit, rests_since = self.timeline.now + BACK_WITHIN, None
        while not self._is_wrong():
            restless = self.watch.restless()
            if restless and self.timeline.now >= limit:
                self.watch.wrong(f"the fleet does not come to rest: {'; '.join(restless)}")
            if restless:
                rests_since = None
            elif rests_since is None:
                rests_since = self.timeline.now
            elif self.timeline.now - rests_since >= QUIET_FOR:
                return
            self.timeline.run_until(self.timeline.now + 1.0, self._is_wrong)

    def _look(self) -> None:
        self.watch.look()
        self.timeline.after(1.0, self._look)

    def _store_moment(self, name: str) -> None:
        if self.current is not None:
            self.current.store_moment(name)

    def _received(self, body: bytes, client: Client) -> None:
        self.watch.received[body].add(client)

    def was_lost(self, task: str) -> bool:
        """Whether events of a task may be missing, without a fault of the monitor."""
        expected = set(self.watch.expected())
        return any(sent.task == task and identity not in expected for identity, sent in self.load.book.taken.items())
