"""Simulated hosts, and the processes of the monitor on them: the real loop, with simulated parts beneath it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ha_monitor.broker.source import Source
from ha_monitor.broker.task_query import WorkerAnswers
from ha_monitor.clock import Clock
from ha_monitor.config.schema import BatchSettings, Broker, Config, StoreSettings, StuckSettings, Workers
from ha_monitor.config.schema import Handlers as HandlerSettings
from ha_monitor.errors import StoreUnavailable
from ha_monitor.outputs.output import Line
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.store.memory.record import memory_record
from ha_monitor.store.stuck import MAX_ABSENCE
from ha_monitor.threads import CallThread, Threads
from tests.simulation.broker import HEARTBEAT, PubSubBroker, QueueBroker, QueueSource, SubscribedSource
from tests.simulation.clock import HostClock
from tests.unit.loop_bed import BareInstance

if TYPE_CHECKING:
    from tests.simulation.world import World

STORE_TIMEOUT = 3.0
LEASE = 5.0
CONFIG = Config(
    broker=Broker(heartbeat=HEARTBEAT),
    store=StoreSettings(lease=LEASE, name_wait=2.0, timeout=STORE_TIMEOUT),
    batch=BatchSettings(events=40, time=0.02),
    handlers=HandlerSettings(attempts=3, backoff=1),
    workers=Workers(late_after=4.0, lost_after=8.0),
    stuck=StuckSettings(sent_after=15, received_after=15, started_after=15),
)
Result = TypeVar("Result")
read_line = msgspec.json.Decoder().decode


class Crash(BaseException):
    """The process is killed. Nothing of the program may catch it."""


class SimulatedCalls(CallThread):
    """A thread for calls: each is done at once, or after the time that the host's plan says."""

    def __init__(self, process: Process, name: str) -> None:
        self._process = process
        self._name = name

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        done: Future[Result] = Future()
        process = self._process

        def work() -> None:
            if process.is_killed:
                return
            try:
                result = call()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(result)

        takes = process.host.durations.get(self._name, [])
        seconds = takes.pop(0) if takes else process.host.usual.get(self._name, 0.0)
        if seconds:
            process.moment(f"{self._name[:-1]} works")
            process.world.timeline.after(seconds, work)
        else:
            work()
        return done

    def wait(self, submitted: Future[Any], seconds: float | None = None) -> bool:
        if not submitted.done():
            self._process.let_pass(300.0 if seconds is None else seconds, submitted.done)
        return submitted.done()


class SimulatedThreads(Threads):
    """In place of the system's."""

    def __init__(self, process: Process, clock: Clock) -> None:
        super().__init__(clock, lambda name, reason: None)
        self._process = process

    def calls(self, name: str) -> CallThread:
        return SimulatedCalls(self._process, name)


class Output:
    """Where the lines of a process go."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def write(self, lines: list[Line]) -> None:
        if not lines:
            return
        process, timeline = self._process, self._process.world.timeline
        began = timeline.now
        process.moment("before write")
        for line in lines:
            process.world.watch.line(process, read_line(line.text), held_up=timeline.now > began)
        process.moment("after write")


class Host:
    """A machine, and what happens to it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.clock = HostClock(world.timeline, up_for=float(world.random.randrange(1_000_000)))
        self.is_linked = True
        """Whether packets get through between it and the broker."""
        self.store_fault: str | None = None
        """How calls of the store fail: "refused" or "hangs"."""
        self.traps: dict[str, list[Callable[[Process], None]]] = {}
        """What happens at the next moments of a kind."""
        self.durations: dict[str, list[float]] = {}
        """How long the next calls of a thread take, by its name."""
        self.usual: dict[str, float] = {"investigator": 1.0}
        self.process: Process | None = None
        self.disturbed_until = 0.0
        """When the last of its faults was over."""

    def start(self) -> None:
        """Start the monitor, unless it runs; once it has stopped, if it is about to."""
        if self.process is not None and self.process.stop_asked:
            self.world.timeline.after(0.5, self.start)
        elif self.process is None:
            self.process = Process(self)
            self.world.timeline.after(self.world.random.random() * 0.2, self.process.turn)

    def crash(self, *, power: bool = False) -> None:
        """Kill the monitor. :param power: the whole host is off, so that nobody is told."""
        if self.process is not None:
            self.process.killed(power=power)
            self.process = None

    def link(self, up: bool) -> None:
        self.is_linked = up
        if up:
            self.world.broker.deliver()


class Process(BareInstance):
    """One run of the monitor."""

    def __init__(self, host: Host) -> None:
        world = self.world = host.world
        self.host = host
        self.name = host.name
        self.clock: HostClock
        self.is_killed = self.is_stopped = self.stop_asked = False
        self.frozen_until = 0.0
        self._fail_overs = world.fail_overs
        self.is_paused = False
        """Stopped in the middle of a step."""
        self.waits_until: float | None = None
        """When what it waits for in the middle of a step is over."""
        threads = SimulatedThreads(self, host.clock)
        max_absence = 0.0 if world.broker.redelivers else MAX_ABSENCE
        super().__init__(
            host.name,
            clock=host.clock,
            source=self._source(world.broker),
            record=memory_record(world.server, world.config, host.clock, max_absence=max_absence),
            threads=threads,
            config=world.config,
            handlers=[self.handle],
            investigator=Investigator(self._ask_about, None, host.clock, threads),
        )

    def _source(self, broker: QueueBroker | PubSubBroker) -> Source:
        if isinstance(broker, QueueBroker):
            return QueueSource(broker, self, self.world.prefetch)
        return SubscribedSource(broker, self)

    def make_output(self) -> Any:
        return Output(self)

    def _ask_about(self, task_ids: Sequence[str], _settings: Sequence[str]) -> WorkerAnswers:
        return self.world.load.answers(task_ids)

    def handle(self, event: Any, *_rest: Any) -> None:
        self.world.watch.handled(event.id)

    # --- what the loop's parts ask of the process -------------------------------------------

    @property
    def is_linked(self) -> bool:
        return self.host.is_linked

    def moment(self, name: str) -> None:
        """A step is about to be made, or has been: something may happen to the process now."""
        if traps := self.host.traps.get(name):
            traps.pop(0)(self)
        if self.is_killed:
            raise Crash

    def store_moment(self, name: str) -> None:
        self.moment(name)
        fault = self.host.store_fault or self.world.store_fault
        if not name.startswith("before"):
            return
        if self._fail_overs < self.world.fail_overs:
            self._fail_overs = self.world.fail_overs
            raise StoreUnavailable("Connection reset by peer")
        if fault is None:
            return
        if fault == "hangs":
            self.pause(STORE_TIMEOUT)
            raise StoreUnavailable("Timeout reading from socket")
        raise StoreUnavailable("Connection refused")

    def pause(self, seconds: float) -> None:
        """Wait for something, in the middle of a step."""
        self.let_pass(seconds)

    def let_pass(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass, and others work, in the middle of a step.

        One that began to wait meanwhile may end later (`Timeline.run_until`): then this one was held up as by a freeze.
        """
        world, timeline = self.world, self.world.timeline
        current, self.waits_until = world.current, timeline.now + seconds
        timeline.run_until(self.waits_until, until)
        if timeline.now > self.waits_until + 0.5:
            world.may_lose_leases = True
        world.current, self.waits_until = current, None
        self.check_killed()

    @property
    def is_held_up(self) -> bool:
        """Frozen: it can say nothing, and nobody can ask it."""
        now = self.world.timeline.now
        is_late = self.waits_until is not None and now > self.waits_until
        return is_late or self.is_paused or now < self.frozen_until

    def freeze(self, seconds: float) -> None:
        """Be stopped in the middle of a step."""
        self.is_paused = True
        self.pause(seconds)
        self.is_paused = False

    def check_killed(self) -> None:
        if self.is_killed:
            raise Crash

    # --- broadcast --------------------------------------------------------------------------

    def _ask(self) -> None:
        # As `WorkerBroadcast`: whoever asks hears of an alarm, and what fails for another reason counts as asked.
        self.is_blocked = self.world.broker.alarm
        super()._ask()

    def alarm_is_over(self) -> None:
        """The connection that asked is not blocked any more."""
        if self.is_blocked:
            self._ask()

    # --- its life ---------------------------------------------------------------------------

    def turn(self) -> None:
        """One cycle, and the next one after a rest."""
        world, timeline = self.world, self.world.timeline
        if self.is_killed or self.is_stopped:
            return
        if timeline.now < self.frozen_until:
            timeline.at(self.frozen_until, self.turn)
            return
        before, world.current = world.current, self
        self.host.clock.slept = 0.0
        try:
            if self.stop_asked:
                self.pipeline.stop()
                self.pipeline.run()
                self.is_stopped = True
                if self.host.process is self:
                    self.host.process = None
                return
            self.cycle()
        except Crash:
            return
        except Exception as error:
            world.watch.ended(self, error)
            self.killed(power=False)
            return
        finally:
            world.current = before
        timeline.after(self.host.clock.slept + 0.002, self.turn)

    def killed(self, *, power: bool) -> None:
        self.is_killed = True
        self.world.watch.killed(self)
        source = self.source
        if isinstance(source, QueueSource):
            source.killed(power=power)
        elif isinstance(source, SubscribedSource):
            source.close()
