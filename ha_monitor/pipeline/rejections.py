"""Counts what was rejected, and keeps samples, within limits."""

from __future__ import annotations

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.events.decode import Rejected
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.log import Logger
from ha_monitor.schedule import Schedule
from ha_monitor.text.visible import visible_json

WARN_EVERY = 10.0
"""Minimum seconds between two warnings."""
MAX_SAMPLES = 20
"""Maximum samples kept between two ticks."""


class Rejections:
    """Collects samples for the store, and warns at a limited rate."""

    def __init__(self, identity: Identity, logger: Logger, clock: Clock) -> None:
        self._identity = identity
        self._logger = logger
        self._clock = clock
        self.samples: list[bytes] = []
        """Samples that are not in the store yet."""
        self._unreported = 0
        self._last: Rejected | None = None
        self._warning = Schedule(clock, WARN_EVERY)

    def add(self, rejected: list[Rejected], count: int) -> None:
        """Add the rejections of a batch.

        :param rejected: the first of them.
        :param count: how many there were.
        """
        self._unreported += count
        for rejection in rejected:
            self._last = rejection
            if len(self.samples) < MAX_SAMPLES:
                sample = {
                    "time": iso_time(self._clock.time()),
                    "instance": self._identity.instance,
                    "host": self._identity.host,
                    "reason": rejection.reason,
                    "sample": rejection.sample,
                }
                self.samples.append(visible_json(msgspec.json.encode(sample)))
        self.report()

    def report(self, *, at_once: bool = False) -> None:
        """Warn about rejections since the last warning, at a limited rate.

        :param at_once: warn without regard to the rate, since no later call will.
        """
        if self._last is None or not self._unreported or not (at_once or self._warning.is_due()):
            return
        self._logger.warning("event-rejected", count=self._unreported, reason=self._last.reason)
        self._warning.restart()
        self._unreported = 0

    def samples_stored(self) -> None:
        """Drop the samples, since they are in the store."""
        self.samples = []
