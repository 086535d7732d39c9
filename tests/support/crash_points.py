"""Runs `ha-monitor` so that it kills itself at a given step: `python -m tests.support.crash_points STEP COUNT run …`.
At one of the steps it only raises an error that nobody expects.

A kill at a random moment rarely hits the short spans between two steps; this hits each of them. The program
itself knows nothing of it: the methods are replaced here, in a process of the tests.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from ha_monitor.cli.main import main

Counts = Callable[[tuple[Any, ...], Any], bool]
"""Whether a call is one to count, given its arguments (self first) and, after the call, its result."""


def always(_arguments: tuple[Any, ...], _result: Any) -> bool:
    return True


def has_result(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


def has_argument(arguments: tuple[Any, ...], _result: Any) -> bool:
    return bool(arguments[1])


def has_items(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result.items)


def has_taken_over(_arguments: tuple[Any, ...], result: Any) -> bool:
    return any(takeover.entries for takeover in result.taken)


def has_events(arguments: tuple[Any, ...], _result: Any) -> bool:
    return b'"event_time"' in arguments[1]


class Step(NamedTuple):
    """A moment in the way of an event."""

    method: str
    """Module, class and method."""
    when: str
    """before, after, or halfway: with half of the bytes written. raises: before, and it raises."""
    counts: Counts = always


STEPS = {
    "received": Step("ha_monitor.broker.amqp_source:AmqpSource.receive", "after", has_result),
    "decoded": Step("ha_monitor.events.decode:Decoder.decode", "after"),
    "sent-to-store": Step("ha_monitor.store.store:RedisStore.send_apply", "after"),
    "merged": Step("ha_monitor.store.store:RedisStore.receive_apply", "after", has_items),
    "before-lines": Step("ha_monitor.outputs.line:EventLines.write", "before", has_argument),
    "halfway-through-lines": Step("ha_monitor.outputs.output:StreamOutput._write_all", "halfway", has_events),
    "after-lines": Step("ha_monitor.outputs.line:EventLines.write", "after", has_result),
    "before-handler": Step("ha_monitor.outputs.handlers:Handlers.call", "before"),
    "after-handler": Step("ha_monitor.outputs.handlers:Handlers.call", "after"),
    "before-failed-handler-recorded": Step("ha_monitor.store.store:RedisStore.record_outcome", "before"),
    "after-failed-handler-recorded": Step("ha_monitor.store.store:RedisStore.record_outcome", "after"),
    "before-noted": Step("ha_monitor.store.store:RedisStore.announced", "before"),
    "before-acknowledgement": Step("ha_monitor.broker.amqp_source:AmqpSource.acknowledge", "before"),
    "after-acknowledgement": Step("ha_monitor.broker.amqp_source:AmqpSource.acknowledge", "after"),
    "after-tick": Step("ha_monitor.store.store:RedisStore.tick", "after"),
}
TAKEN_OVER = "taken-over"
"""Not on the way of every event: right after a dead instance's outbox became this one's."""
INCIDENT = "incident-written"
"""Right after an incident was written that begins to fire or is over."""
UNEXPECTED = "unexpected-error"
ALL_STEPS = STEPS | {
    TAKEN_OVER: Step("ha_monitor.store.store:RedisStore.tick", "after", has_taken_over),
    INCIDENT: Step("ha_monitor.store.duties:Duties.incidents", "after", has_result),
    UNEXPECTED: Step("ha_monitor.outputs.handler_calls:HandlerCalls.call", "raises"),
}


def kill_self() -> NoReturn:
    """End at once, as by a crash."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def install(step: Step, count: int) -> None:
    """Replace the method so that its `count`-th call is the end."""
    module_name, _, path = step.method.partition(":")
    class_name, _, name = path.partition(".")
    owner = getattr(importlib.import_module(module_name), class_name)
    original = getattr(owner, name)
    calls = itertools.count(1)

    def is_last(arguments: tuple[Any, ...], result: Any) -> bool:
        return step.counts(arguments, result) and next(calls) == count

    def replacement(*arguments: Any, **options: Any) -> Any:
        if step.when == "before" and is_last(arguments, None):
            kill_self()
        if step.when == "raises" and is_last(arguments, None):
            raise RuntimeError("nobody expects this")
        if step.when == "halfway" and is_last(arguments, None):
            writer, data = arguments
            original(writer, data[: len(data) // 2])
            kill_self()
        result = original(*arguments, **options)
        if step.when == "after" and is_last(arguments, result):
            kill_self()
        return result

    setattr(owner, name, replacement)


if __name__ == "__main__":
    install(ALL_STEPS[sys.argv[1]], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
