"""Whether a fleet renews its leases often enough, whatever it has to merge.

It is told by what an instance works between two renewals: by the clock, all takes long on a busy machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from tests.support.instances import Fleet
from tests.support.machine import patient

PATIENT: dict[str, Any] = {
    "store": {"lease": patient(30), "timeout": patient(5)},
    "broker": {"connect_timeout": patient(5), "heartbeat": patient(12)},
}
"""Settings of a fleet in which nothing runs out because the machine is busy."""


class Renewals:
    """The accounts of a fleet."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet = fleet
        self._files = [folder / f"renewals-{one.name}.json" for one in fleet.instances]

    def start(self) -> None:
        """Start all instances, and wait until they consume."""
        for one, file in zip(self._fleet.instances, self._files, strict=True):
            one.start(launcher=("tests.support.renewing", str(file)))
        self._fleet.wait_until_consuming()

    def spent(self) -> float:
        """Seconds of a core that all instances have used."""
        times = [psutil.Process(one.process.pid).cpu_times() for one in self._fleet.instances]
        return float(sum(time.user + time.system for time in times))

    def most_between(self) -> float:
        """Most seconds of a core that an instance has used between two renewals so far."""
        return max(float(file.read_text()) for file in self._files)
