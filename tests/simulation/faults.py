"""Faults, and the plan of a world: which, when, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from ha_monitor.errors import BrokerUnavailable, StoreUnavailable, Unavailable

if TYPE_CHECKING:
    from tests.simulation.hosts import Host, Process
    from tests.simulation.world import World

STEPS = [
    *("before send", "before apply", "after apply", "before write", "after write", "before acknowledge"),
    *("after acknowledge", "before tick", "after tick", "before recover", "after recover", "after register"),
    *("before record_outcome", "after record_outcome", "before receive", "before begin", "after begin"),
]
"""Where a process may be when something happens to it."""
STORE_STEPS = [step for step in STEPS if not any(word in step for word in ("write", "acknowledge", "receive"))]
BROKER_STEPS = ["before acknowledge", "after acknowledge", "before receive", "before depth", "before heartbeat"]
Fault = Callable[["World"], None]


def plan(world: World) -> None:
    """Choose the faults of a world, and put them on its timeline."""
    random = world.random
    # What is short everywhere: the instances do not go in step.
    for host in world.hosts:
        for _ in range(random.randrange(4)):
            _trap(world, host, random.choice(STEPS), lambda process: process.pause(world.random.random() * 0.3))
    world.faults = random.choice([0, 1, 1, 2, 2, 3])
    for _ in range(world.faults):
        fault = random.choice(FAULTS + OF_A_QUEUE if world.broker.redelivers else FAULTS)
        at = random.random() * 16.0
        world.timeline.after(at, partial(fault, world))


def _lasts(world: World, seconds: float, text: str, end: Callable[[], None] | None = None) -> None:
    """A fault has begun, and is over after so long."""
    world.watch.note(f"FAULT {text}, for {seconds:.1f} s")

    def over() -> None:
        world.watch.note(f"OVER {text}")
        if end is not None:
            end()
        world.watch.look()  # the next fault may begin within a second

    over_at = world.timeline.now + seconds
    world.healthy_at = max(world.healthy_at, over_at)
    world.timeline.at(over_at, over)


def _trap(world: World, host: Host, step: str, action: Callable[[Process], None]) -> None:
    host.traps.setdefault(step, []).append(action)


def _some_host(world: World) -> Host:
    return world.random.choice(world.hosts)


# --- the monitor's hosts ---------------------------------------------------------------------


def crash(world: World) -> None:
    """The monitor is killed, at any step; sometimes its host loses power."""
    host, random = _some_host(world), world.random
    power, away, step = random.random() < 0.3, random.choice([0.1, 3.0, 12.0]), random.choice([None, *STEPS])

    def die(process: Process) -> None:
        _dies(world, host, process, power=power, away=away)

    world.may_lose_leases = True
    _lasts(world, 4.0 + away, f"{host.name} crashes {'at ' + step if step else 'at once'}, power={power}")
    if step is None:
        if host.process is not None:
            die(host.process)
    else:
        _trap(world, host, step, die)
        world.timeline.after(4.0, lambda: host.traps.pop(step, None))


def _dies(world: World, host: Host, process: Process, *, power: bool, away: float) -> None:
    if host.process is process:
        world.watch.note(f"FAULT {host.name} crashes")
        host.crash(power=power)
        world.timeline.after(away, host.start)
        world.healthy_at = max(world.healthy_at, world.timeline.now + away)


def freeze(world: World) -> None:
    """The monitor is stopped, at any step, and goes on."""
    host, random = _some_host(world), world.random
    seconds, step = random.choice([1.0, 4.0, 7.0, 15.0]), random.choice([None, *STEPS])
    world.may_lose_leases = True

    def stop(process: Process) -> None:
        world.watch.note(f"FAULT {host.name} is frozen for {seconds} s")
        world.healthy_at = max(world.healthy_at, world.timeline.now + seconds)
        process.freeze(seconds)

    _lasts(world, seconds + 4.0, f"{host.name} freezes {'at ' + step if step else 'between two cycles'}")
    if step is not None:
        _trap(world, host, step, stop)
        world.timeline.after(4.0, lambda: host.traps.pop(step, None))
    elif host.process is not None:
        host.process.frozen_until = world.timeline.now + seconds


def restart(world: World) -> None:
    """The monitor is stopped in order, and started again."""
    host = _some_host(world)
    world.may_lose_leases = True
    if host.process is not None:
        host.process.stop_asked = True
    away = world.random.choice([0.5, 5.0])
    _lasts(world, away + 1.0, f"{host.name} restarts", host.start)


def clock_step(world: World) -> None:
    """A wall clock is put forward or back: a monitor's, the store's (back only), or a worker's."""
    random = world.random
    which = random.choice(["host", "store", "worker"])
    if which == "host":
        host = _some_host(world)
        host.clock.ahead += random.choice([-3600.0, -5.0, 5.0, 3600.0])
        _lasts(world, 0.1, f"the clock of {host.name} is {host.clock.ahead:+g} s")
    elif which == "worker":
        worker = random.choice(world.load.workers)
        world.worker_clocks_stepped = True
        worker.clock.ahead += random.choice([-7200.0, -3.0, 3.0, 7200.0])
        _lasts(world, 0.1, f"the clock of {worker.name} is {worker.clock.ahead:+g} s")
    else:
        clock = world.store_clock
        clock.ahead -= random.choice([2.0, 30.0, 3600.0])
        _lasts(world, 0.1, f"the store's clock is {clock.ahead:+g} s")


def slow_handler(world: World) -> None:
    """A handler takes its time."""
    host, random = _some_host(world), world.random
    seconds = random.choice([0.5, 4.0, 12.0])
    host.durations.setdefault("handlers", []).extend([seconds] * random.choice([1, 2]))
    if random.random() < 0.5:
        began = world.timeline.now

        def lose(_process: Process) -> None:
            if world.timeline.now < began + 30.0:
                world.may_lose_leases = True  # the handler is waited for, whatever becomes of the lease
                raise StoreUnavailable("connection lost while a handler works")

        _trap(world, host, "handler works", lambda _process: _trap(world, host, "before tick", lose))
    _lasts(world, 2 * seconds, f"a handler of {host.name} takes {seconds} s")


def hung_call(world: World) -> None:
    """What is optional gets no answer for a long time."""
    host = _some_host(world)
    host.durations.setdefault("investigator", []).append(90.0)
    _lasts(world, 0.1, f"a question of {host.name} hangs")


# --- links -----------------------------------------------------------------------------------


def half_open(world: World) -> None:
    """Packets between a host and the broker are dropped, and nobody is told."""
    host, seconds = _some_host(world), world.random.choice([2.0, 6.0, 12.0, 20.0])
    host.link(False)
    _lasts(world, seconds, f"{host.name} has no link to the broker", lambda: host.link(True))


def store_link(world: World) -> None:
    """A host cannot reach the store."""
    host, random = _some_host(world), world.random
    host.store_fault = random.choice(["refused", "hangs"])
    seconds = random.choice([0.5, 3.0, 8.0, 15.0])
    world.may_lose_leases = True

    def over() -> None:
        host.store_fault = None

    _lasts(world, seconds, f"{host.name} has no store ({host.store_fault})", over)


def isolated(world: World) -> None:
    """A host reaches neither."""
    host, seconds = _some_host(world), world.random.choice([3.0, 8.0, 15.0])
    host.link(False)
    host.store_fault = "hangs"
    world.may_lose_leases = True

    def over() -> None:
        host.store_fault = None
        host.link(True)

    _lasts(world, seconds, f"{host.name} is cut off", over)


def worker_link(world: World) -> None:
    """A worker cannot reach the broker."""
    worker, seconds = world.random.choice(world.load.workers), world.random.choice([3.0, 12.0])
    worker.is_linked = False

    def over() -> None:
        worker.is_linked, worker.linked_since = True, world.timeline.now

    _lasts(world, seconds, f"{worker.name} has no link to the broker", over)


# --- replies ---------------------------------------------------------------------------------


def lost_reply(world: World) -> None:
    """The store does what it is asked, and the reply is lost; or the call is."""
    _loses(world, "store", STORE_STEPS, StoreUnavailable)


def lost_acknowledgement(world: World) -> None:
    """The connection to the broker breaks at a step."""
    _loses(world, "broker", BROKER_STEPS, BrokerUnavailable)


def _loses(world: World, what: str, steps: Sequence[str], error: type[Unavailable]) -> None:
    host, step = _some_host(world), world.random.choice(steps)

    def lose(_process: Process) -> None:
        world.watch.note(f"FAULT {host.name} loses its {what} {step}")
        raise error(f"connection lost {step}")

    _trap(world, host, step, lose)
    _lasts(world, 4.0, f"{host.name} loses its {what} {step}", lambda: _clear(host, step))


def _clear(host: Host, step: str) -> None:
    host.traps.pop(step, None)


# --- the services ----------------------------------------------------------------------------


def store_away(world: World) -> None:
    """The store is away for all."""
    random = world.random
    world.store_fault = random.choice(["refused", "hangs"])
    seconds = random.choice([0.5, 3.0, 8.0, 15.0])
    if world.store_fault == "hangs":
        world.may_lose_leases = True  # of whom an attempt to connect outlasts the lease

    def over() -> None:
        world.store_fault = None

    _lasts(world, seconds, f"the store is away ({world.store_fault})", over)


def store_gone_back(world: World) -> None:
    """The store loses its last seconds, or the last moment before a fail-over."""
    if world.random.random() < 0.5:
        _fail_over(world)
        return
    seconds = world.random.choice([1.0, 3.0, 8.0])
    kept, kept_at = world.server.state(), world.timeline.now
    world.may_lose_leases = True

    def back() -> None:
        world.server.go_back(kept)
        world.watch.went_back.append((kept_at, world.timeline.now))

    _lasts(world, seconds, "the store will go back to now", back)


def _fail_over(world: World) -> None:
    """Sometimes because the primary's host dies, and with it a monitor."""
    if not world.server.last_token:
        # One that comes back empty is taken for a new one: docs/faults.md.
        world.timeline.after(1.0, partial(_fail_over, world))
        return
    kept, kept_at = world.server.state(), world.timeline.now
    world.may_lose_leases = True
    lag, seconds = world.random.choice([0.01, 0.1, 0.5]), world.random.choice([0.5, 3.0, 8.0])

    def fail() -> None:
        world.store_fault = world.random.choice(["refused", "hangs"])
        world.fail_overs += 1
        world.server.go_back(kept)
        world.server.server_id = str(world.fail_overs).encode()
        world.watch.went_back.append((kept_at, world.timeline.now))

    def over() -> None:
        world.store_fault = None

    # Of its own: the other faults are the same whether a host dies or not.
    fate = Random(f"host {world.seed} {kept_at}")
    if fate.random() < 0.5:
        world.timeline.after(lag, fail)
        _lasts(world, lag + seconds, f"the store fails over, and loses {lag} s", over)
        return
    host, away = fate.choice(world.hosts), fate.choice([0.1, 1.0, 3.0, 12.0])
    power, step = fate.random() < 0.5, fate.choice(["after apply", "after write", "before acknowledge"])

    def die(process: Process) -> None:
        fail()
        world.timeline.after(seconds, over)
        _dies(world, host, process, power=power, away=away)

    world.timeline.after(lag, lambda: _trap(world, host, step, die))
    world.timeline.after(4.0, lambda: host.traps.pop(step, None))
    _lasts(world, 4.0 + max(seconds, away), f"{host.name} dies at {step}, and the store fails over to {lag} s before")


def broker_away(world: World) -> None:
    """The broker is stopped and started; its queue is kept."""
    world.broker.stop()

    def over() -> None:
        world.broker.is_up = True

    _lasts(world, world.random.choice([0.5, 4.0, 12.0]), "the broker is away", over)


def no_majority(world: World) -> None:
    """The queue delivers nothing, though the broker answers."""
    world.broker.delivers = False

    def over() -> None:
        world.broker.delivers = True
        world.broker.deliver()

    _lasts(world, world.random.choice([4.0, 12.0, 25.0]), "the queue has no majority", over)


def alarm(world: World) -> None:
    """The broker takes nothing from those who publish."""
    world.broker.alarm = True

    def over() -> None:
        world.broker.alarm = False
        for host in world.hosts:
            if host.process is not None:
                host.process.alarm_is_over()

    _lasts(world, world.random.choice([3.0, 12.0, 25.0]), "the broker has an alarm", over)


def worker_crash(world: World) -> None:
    """A worker is killed."""
    worker = world.random.choice(world.load.workers)
    worker.die()
    _lasts(world, 0.1, f"{worker.name} crashes")


OF_A_QUEUE: list[Fault] = [no_majority, alarm]
"""What happens to RabbitMQ only."""
FAULTS: list[Fault] = [
    *(crash, crash, freeze, freeze, restart, clock_step, slow_handler, hung_call),
    *(half_open, half_open, store_link, isolated, worker_link, lost_reply, lost_reply, lost_acknowledgement),
    *(store_away, store_gone_back, broker_away, worker_crash),
]
