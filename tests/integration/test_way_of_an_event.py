"""Which modules one event goes through on real services, so that its way can be read."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from ha_monitor.broker.amqp_source import AmqpSource
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config, LogLevel, StoreSettings
from ha_monitor.outputs.line import Identity
from ha_monitor.outputs.output import StreamOutput
from ha_monitor.pipeline.reloadable import Reloadable
from ha_monitor.service import make_decoder, make_record
from tests.support.process import wait_until
from tests.support.recording import Recorded, publish
from tests.support.threads import plain_threads
from tests.unit.builders import event
from tests.unit.loop_bed import BareInstance, policy_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ha_monitor"
WAY = (
    ("pipeline/pipeline.py", "Pipeline._consume"),
    ("pipeline/collector.py", "Collector.collect"),
    ("broker/amqp_source.py", "AmqpSource.receive"),
    ("broker/buffered.py", "BufferedConnection.drain_events"),
    ("events/decode.py", "Decoder.decode"),
    ("events/facts.py", "FactBuilder.task_fact"),
    ("pipeline/merging.py", "Merging.send_next"),
    ("pipeline/in_flight.py", "BatchesInFlight.send"),
    ("store/calls.py", "ScriptCalls.send_apply"),
    ("pipeline/announcements.py", "Announcements.announce"),
    ("outputs/line.py", "EventLines.write"),
    ("outputs/output.py", "StreamOutput.write"),
)
"""The modules that have the event in their hands (as bytes, a message, a fact, a batch, an item, a line), decide what
becomes of it and hand it on, and where it enters each: in the order in which one reads them.
"""
MOST = 12
"""What a reader can follow. Whoever needs another one may join two that are read together."""
END = ("broker/amqp_source.py", "AmqpSource.acknowledge")
FORM, STATE, WIRE = (
    "gives one form for another, and keeps nothing",
    "is told or asked something, and keeps what it needs for that",
    "turns what a library raises into the program's errors",
)
BESIDE = {
    **dict.fromkeys(("events/histogram.py", "events/types.py", "store/outbox.py", "store/packing.py"), FORM),
    **dict.fromkeys(("store/record.py", "store/results.py", "store/scripts.py", "text/visible.py"), FORM),
    **dict.fromkeys(("clock.py", "metrics/health.py", "outputs/handler_calls.py", "pipeline/broker_link.py"), STATE),
    **dict.fromkeys(("pipeline/latency.py", "pipeline/stats.py", "pipeline/watermark.py", "schedule.py"), STATE),
    **dict.fromkeys(("pipeline/ticker.py", "pipeline/turn.py", "store/counting.py", "store/own_state.py"), STATE),
    "store/store.py": STATE,
    **dict.fromkeys(("broker/amqp_errors.py", "store/connection.py"), WIRE),
}
"""The other modules that an event enters, and why one need not open them to follow it."""


class Call(NamedTuple):
    """A call of a function of the program."""

    module: str
    function: str
    callers: tuple[str, str]
    """The module that called it, and the one that called that; empty if it is none of the program's."""


def module_of(frame: FrameType | None) -> str:
    path = "" if frame is None else frame.f_code.co_filename
    return path.removeprefix(f"{PACKAGE}/") if path.startswith(f"{PACKAGE}/") else ""


class RealInstance(BareInstance):
    """An instance on real services, whose lines go to a file descriptor."""

    def __init__(self, config: Config, descriptor: int) -> None:
        self._descriptor = descriptor
        clock, identity = SystemClock(), Identity("tests", "1", "host", 1)
        super().__init__(
            "1",
            clock=clock,
            source=AmqpSource(config, "ha-monitor@1.host"),
            record=make_record(config, identity, clock),
            threads=plain_threads(),
            config=config,
        )

    def make_output(self) -> Any:
        return StreamOutput(self._descriptor)

    def reloadable(self, handlers: Any = (), level: LogLevel = LogLevel.INFO) -> Reloadable:
        decoder = make_decoder(self.config, policy_of(level, for_handlers=False))
        return super().reloadable(handlers, level)._replace(decoder=decoder)

    def handle(self, *bodies: dict[str, Any]) -> list[Call]:
        """Go round until these events, one message, are acknowledged; returns the calls of that."""
        calls: list[Call] = []

        def note(frame: FrameType, what: str, _argument: Any) -> None:
            if what == "call" and (module := module_of(frame)):
                callers = module_of(frame.f_back), module_of(frame.f_back and frame.f_back.f_back)
                calls.append(Call(module, frame.f_code.co_qualname, callers))

        before = self.stats.events
        publish(self.config.broker.url, [Recorded("task.multi", "application/json", "utf-8", json.dumps(bodies))])
        profiled = sys.getprofile()
        sys.setprofile(note)
        try:
            while self.stats.events < before + len(bodies) or self.pipeline._in_flight:
                self.cycle()
        finally:
            sys.setprofile(profiled)
        return calls


@pytest.fixture
def one(broker_url: str, store_url: str) -> Iterator[tuple[RealInstance, int]]:
    """An instance that consumes, and where its lines come out."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    config = Config(broker=Broker(url=broker_url), store=StoreSettings(url=store_url))
    instance = RealInstance(config, writing)

    def consumes() -> bool:
        instance.cycle()
        return instance.pipeline._broker.consuming

    wait_until(consumes, 60, "the instance consuming", interval=0.0)
    yield instance, reading
    instance.pipeline._shutdown(finish=True)
    os.close(reading)
    os.close(writing)


def test_one_event_goes_through_few_modules(one: tuple[RealInstance, int]) -> None:
    """Given the end of a known task on RabbitMQ and Redis, a reader follows it from the socket to the acknowledgement
    through these modules, in this order; whatever else it enters only answers, and leads to none of them but
    back to its caller.
    """
    instance, lines = one
    runs: list[list[Call]] = []
    for _ in range(8):
        task = {"uuid": str(uuid4()), "name": "shop.pay"}
        instance.handle(*(event(f"task-{step}", at=time.time(), **task) for step in ("sent", "received", "started")))
        runs.append(instance.handle(event("task-succeeded", at=time.time(), uuid=task["uuid"])))
        # An instance also has lines of its own.
        said = [line for line in map(json.loads, os.read(lines, 1 << 20).splitlines()) if "task_id" in line]
        assert (said[-1]["task_id"], said[-1]["task_name"]) == (task["uuid"], task["name"])

    # Now and then a tick or a heartbeat comes in between.
    entered = [{call.module for call in run} for run in runs]
    way = {module for module, _ in WAY}
    assert way <= set[str].intersection(*entered) <= {*way, *BESIDE}
    assert BESIDE.keys() <= set[str].union(*entered)
    assert len(way) <= MOST
    leads = [{(call.module, *call.callers) for call in run} for run in runs]
    assert [
        (caller, module)
        for module, caller, before in set[tuple[str, str, str]].intersection(*leads)
        if module in way and caller in BESIDE and module != before
    ] == []
    # On a busy machine a tick may hand a batch over, as to a store that is far away.
    missing = []
    for run in runs:
        steps = iter([(call.module, call.function) for call in run])
        missing.append([step for step in (*WAY, END) if step not in steps])
    assert [] in missing, missing


def test_the_documentation_says_what_to_read() -> None:
    """Given who wants to follow an event, the documentation has the same list."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\d+\. `([\w/]+\.py)`, `([\w.]+)`: ", text, re.MULTILINE)

    assert tuple(listed) == WAY
