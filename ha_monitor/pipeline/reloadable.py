"""What the loop needs from the program around it, such as the parts that a reload of the configuration replaces."""

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
    """What the loop needs from the program around it."""

    def read_again(self) -> Reloadable | None:
        """Read the configuration again. Returns the new parts, or None if the configuration is wrong. Never raises."""

    def ensure_running(self) -> None:
        """Start the threads beside the loop that are not running. Called once per cycle; never waits, never raises."""
