"""What the loop asks of the program around it, such as what a reload of the configuration may replace."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ha_monitor.events.decode import Decoder
from ha_monitor.outputs.handler_calls import HandlerCalls
from ha_monitor.outputs.line import EventLines


class Reloadable(NamedTuple):
    """The parts that may be replaced while the loop runs."""

    decoder: Decoder
    lines: EventLines
    handlers: HandlerCalls


class Program(Protocol):
    """What the loop asks of the program around it."""

    def read_again(self) -> Reloadable | None:
        """Read the configuration again; what can change while running, or None if it is wrong. Never raises."""

    def ensure_running(self) -> None:
        """Start what runs beside the loop and does not run. Called once a cycle; never waits, never raises."""
