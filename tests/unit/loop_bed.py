"""Instances whose loop a test drives by hand, with store and broker in memory and a clock that the test turns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from ha_monitor.broker.memory import MemoryBroker, MemorySource
from ha_monitor.broker.source import Source
from ha_monitor.clock import Clock
from ha_monitor.config.schema import DEFAULT_REDACTED, BatchSettings, Config, LogLevel, StoreSettings
from ha_monitor.config.schema import Handlers as HandlerSettings
from ha_monitor.events.decode import Decoder
from ha_monitor.events.facts import FactBuilder
from ha_monitor.events.redact import Redactor
from ha_monitor.events.types import EmissionPolicy
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.handler_calls import HandlerCalls
from ha_monitor.outputs.handlers import Handler, Handlers
from ha_monitor.outputs.line import EventLines, Identity
from ha_monitor.outputs.log import Threshold, make_logger
from ha_monitor.outputs.output import Line
from ha_monitor.pipeline.incident_detector import IncidentDetector
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.pipeline import Pipeline
from ha_monitor.pipeline.reloadable import Reloadable
from ha_monitor.pipeline.schedule_discovery import ScheduleDiscovery
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.memory.record import memory_record
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.packing import as_lua_string
from ha_monitor.threads import Threads
from tests.support.threads import ConnectingAtOnce
from tests.unit.builders import TurnedClock

LEASE = 5.0
OWN_CONFIG = Config(
    store=StoreSettings(lease=LEASE, name_wait=2.0),
    batch=BatchSettings(time=0.0),
    handlers=HandlerSettings(attempts=3, backoff=10),
)
Function = Callable[..., object]


class Trouble:
    """Fails at moments, as `MemoryServer.trouble` and `MemoryBroker.trouble` name them."""

    def __init__(self) -> None:
        self._planned: dict[str, list[Exception]] = {}
        self._hooks: dict[str, Callable[[], None]] = {}
        self.away: Exception | None = None
        """What each call fails with, before anything is done; None for nothing."""
        self.moments: Counter[str] = Counter()
        """How often each moment came."""
        self.failed: Counter[str] = Counter()
        """How often each was made to fail."""

    def at(self, moment: str, *errors: Exception) -> None:
        """Fail the next times that a moment comes."""
        self._planned.setdefault(moment, []).extend(errors)

    def when(self, moment: str, hook: Callable[[], None]) -> None:
        """Do something the next time that a moment comes."""
        self._hooks[moment] = hook

    def __call__(self, moment: str) -> None:
        self.moments[moment] += 1
        if self._hooks and (hook := self._hooks.pop(moment, None)) is not None:
            hook()
        error = self.away if self.away is not None and moment.startswith("before") else None
        if error is None and (planned := self._planned.get(moment)):
            error = planned.pop(0)
        if error is not None:
            self.failed[moment] += 1
            raise error


class RecordingSupervisor:
    """A supervisor that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def ready(self) -> None:
        self.calls.append("ready")

    def status(self, text: str) -> None:
        self.calls.append(f"status {text}")

    def progress(self) -> None:
        self.calls.append("progress")

    def reloading(self) -> None:
        self.calls.append("reloading")

    def stopping(self) -> None:
        self.calls.append("stopping")


class Written:
    """An output that keeps the lines, read."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, lines: list[Line]) -> None:
        self.lines += [json.loads(line.text) for line in lines]


class Bed:
    """What the instances share."""

    def __init__(self, *, redelivers: bool = True) -> None:
        self.clock = TurnedClock()
        self.store_trouble, self.broker_trouble = Trouble(), Trouble()
        self.server = MemoryServer(self.clock)
        self.server.trouble = self.store_trouble
        self.broker = MemoryBroker(self.clock, redelivers=redelivers)
        self.broker.trouble = self.broker_trouble

    def publish(self, *bodies: Any) -> None:
        """Put a message each into the queue: an event, a list of events, or bytes."""
        self.broker.publish(body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies)

    @property
    def is_settled(self) -> bool:
        """Nothing is in the queue, in flight, or in an outbox."""
        outboxes = [entry for one in self.server.instances.values() for entry in one.outbox]
        return not self.broker.ready and not self.broker.in_flight and not outboxes


class RememberingRedactor(Redactor):
    """One that searches the same text once: those of the loop's events are few, and come again and again."""

    def __init__(self, key_parts: Iterable[str], max_length: int) -> None:
        super().__init__(key_parts, max_length)
        self._searched = lru_cache(maxsize=1024)(super().text)

    def text(self, value: object, max_length: int | None = None) -> str:
        return self._searched(value, max_length) if type(value) is str else super().text(value, max_length)


@cache
def policy_of(level: LogLevel, *, for_handlers: bool) -> EmissionPolicy:
    return EmissionPolicy(level, ["task-succeeded"] if for_handlers else [])


@cache
def redactor() -> Redactor:
    return RememberingRedactor(DEFAULT_REDACTED, 1024)


@cache
def facts_of(policy: EmissionPolicy) -> FactBuilder:
    return FactBuilder(policy, redactor(), arguments=True, results=True, binary=as_lua_string)


class BareInstance:
    """An instance with all that came out of it, whatever clock, store, broker and threads it is given."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        source: Source,
        record: SharedRecord,
        threads: Threads,
        config: Config,
        handlers: Sequence[Function] = (),
        investigator: Investigator | None = None,
        detector: IncidentDetector | None = None,
        discovery: ScheduleDiscovery | None = None,
    ) -> None:
        self.clock, self.source, self.record, self.config = clock, source, record, config
        self.output, self.supervisor, self.stats = self.make_output(), RecordingSupervisor(), Stats()
        self.identity = Identity("tests", name, "host", 1)
        self.logger = make_logger(
            output=self.output,
            identity=self.identity,
            clock=clock,
            threshold=Threshold(LogLevel.DEBUG),
            scrub=lambda text: text,
        )
        self.telemetry = Telemetry(config, clock, self.stats)
        self.broadcasts: list[str] = []
        self.is_blocked = False
        """Whether the broker takes nothing that workers publish."""
        self.asked_at: float | None = None
        self.requests = 0
        """How often the workers were asked for a heartbeat because of their silence."""
        self.reread: Callable[[], Reloadable | None] = lambda: None
        self.todo: list[Callable[[], object]] = []
        """What is done after each cycle of `Pipeline.run`, one at a time."""
        self.pipeline = Pipeline(
            config=config,
            source=source,
            record=record,
            reloadable=self.reloadable(handlers),
            identity=self.identity,
            supervisor=self.supervisor,
            stats=self.stats,
            telemetry=self.telemetry,
            logger=self.logger,
            clock=clock,
            program=self,
            broadcast=self,
            investigator=investigator,
            detector=detector,
            discovery=discovery,
            threads=threads,
        )

    def make_output(self) -> Any:
        return Written()

    def reloadable(self, handlers: Sequence[Function] = (), level: LogLevel = LogLevel.DEBUG) -> Reloadable:
        """What a reload may replace."""
        found = [Handler(one.__name__, frozenset(["task-succeeded"]), one) for one in handlers]
        policy = policy_of(level, for_handlers=bool(handlers))
        return Reloadable(
            Decoder(facts_of(policy), redactor()),
            EventLines(self.output, self.identity, policy, self.clock),
            HandlerCalls(Handlers(found, redactor()), self.config.handlers, self.identity, self.logger, self.clock),
        )

    def read_again(self) -> Reloadable | None:
        return self.reread()

    def ensure_running(self) -> None:
        if self.todo:
            self.todo.pop(0)()

    def send(self, url: str) -> None:
        self.broadcasts.append(url)
        self._ask()

    def ask_again(self) -> None:
        self.requests += 1
        self._ask()

    def _ask(self) -> None:
        if not self.is_blocked:
            self.asked_at = self.clock.monotonic()

    def cycle(self, times: int = 1) -> None:
        """Go round, as `Pipeline.run` does."""
        for _ in range(times):
            self.pipeline.cycle()
            self.pipeline.made_progress()

    @property
    def announced(self) -> list[tuple[str, str]]:
        """(type, task id) of the events that it wrote lines of."""
        return [(line["event"], line.get("task_id", "")) for line in self.output.lines if "event_time" in line]

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its own lines of a kind."""
        return [line for line in self.output.lines if line["event"] == event]


class Instance(BareInstance):
    """One whose parts are those of a bed."""

    def __init__(
        self,
        bed: Bed,
        name: str = "1",
        *,
        config: Config = OWN_CONFIG,
        handlers: Sequence[Function] = (),
        investigator: Investigator | None = None,
        detector: IncidentDetector | None = None,
        discovery: ScheduleDiscovery | None = None,
        prefetch: int | None = 1000,
        threads: Threads | None = None,
    ) -> None:
        self.bed = bed
        self.clock: TurnedClock
        self.source: MemorySource
        super().__init__(
            name,
            clock=bed.clock,
            source=MemorySource(bed.broker, prefetch),
            record=memory_record(bed.server, config),
            threads=threads or ConnectingAtOnce(bed.clock),
            config=config,
            handlers=handlers,
            investigator=investigator,
            detector=detector,
            discovery=discovery,
        )

    def live(self, seconds: float) -> None:
        """Go round until so much time has passed."""
        live(seconds, self)


def live(seconds: float, *instances: Instance) -> None:
    """Let instances go round in turn until so much time has passed."""
    clock = instances[0].clock
    until = clock.now + seconds
    while clock.now < until:
        before = clock.now
        for one in instances:
            one.cycle()
        if clock.now == before:
            clock.now += 0.01
