"""What a reload of the configuration may replace."""

from __future__ import annotations

from typing import NamedTuple

from ha_monitor.events.decode import Decoder
from ha_monitor.outputs.announcer import Announcer


class Reloadable(NamedTuple):
    """The parts that may be replaced while the loop runs."""

    decoder: Decoder
    announcer: Announcer
