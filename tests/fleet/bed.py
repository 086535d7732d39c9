"""The fleet under test: three hosts, their services, the load, and Ansible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ha_monitor.version import __version__
from tests.fleet.load import Load, Truth
from tests.fleet.packages import ROOT, build_higher_version, package_pattern
from tests.fleet.playbook import Ansible
from tests.fleet.watch import Watch
from tests.support.hosts import Bridge, Host, Services
from tests.support.process import wait_until
from tests.support.workers import CeleryWorker

NODE_ID = "shop"
STATUS = "CREDENTIALS_DIRECTORY=/etc/ha-monitor/credentials ha-monitor status --json"


class Instance(NamedTuple):
    """One that consumes, as the shared store says."""

    host: str
    name: str
    pid: int
    version: str


class FleetBed:
    """Everything that the tests need; the load begins with `begin_load`."""

    def __init__(self, bridge: Bridge, folder: Path) -> None:
        self.folder = folder
        self.services = Services(bridge)
        self.hosts = [bridge.host("vm1"), bridge.host("vm2"), bridge.host("vm3", "trixie")]
        self.higher = package_pattern(build_higher_version(folder / "higher"))
        self.ansible = Ansible(
            self.hosts,
            folder / "ansible",
            {
                "ha_monitor_version": __version__,
                "ha_monitor_source": package_pattern(ROOT / "dist"),
                "ha_monitor_node_id": NODE_ID,
                "ha_monitor_broker_url": self.services.broker_url,
                "ha_monitor_store_url": self.services.redis_url(),
            },
        )
        bridge.start()
        self._stack = ExitStack()
        self._watch: Watch | None = None
        self.load = Load(self.services.broker_url)

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def begin_load(self) -> None:
        """Start the truth, a worker and the tasks. The fleet's queue exists, or events of before would count."""
        truth = self._stack.enter_context(Truth(self.services.broker_url))
        self._stack.enter_context(CeleryWorker(self.services.broker_url, pool="threads", concurrency=4))
        self._stack.enter_context(self.load)
        self._watch = Watch(self.hosts, self.load, truth)
        wait_until(lambda: len(truth.events()) > 50, 60, "the load")

    @property
    def loaded(self) -> bool:
        """Whether the load has begun."""
        return self._watch is not None

    @property
    def watch(self) -> Watch:
        """:raises RuntimeError: if the load has not begun."""
        if self._watch is None:
            raise RuntimeError("the load has not begun")
        return self._watch

    def status(self, asked: Host | None = None) -> dict[str, Any]:
        """What `ha-monitor status` says on one of the hosts."""
        return json.loads((asked or self.hosts[1]).run(STATUS, check=False).stdout or "{}")

    def consuming(self, asked: Host | None = None) -> set[Instance]:
        """All instances that consume."""
        return {
            Instance(one["host"], one["instance"], one["pid"], one["version"])
            for one in self.status(asked).get("instances", [])
            if one["alive"] and one["state"] == "consuming"
        }

    def names(self) -> set[tuple[str, str]]:
        """Host and name of each instance that consumes."""
        return {(one.host, one.name) for one in self.consuming()}

    def wait_until_consuming(self, count: int, timeout: float = 90) -> None:
        wait_until(lambda: len(self.names()) == count, timeout, f"{count} consuming instances", interval=1)

    def close(self) -> None:
        self._stack.close()


@contextmanager
def fleet_bed(folder: Path) -> Iterator[FleetBed]:
    """The bed, gone at the end.

    :raises ServiceMissing: if it is not possible on this machine.
    """
    with Bridge() as bridge:
        bed = FleetBed(bridge, folder)
        try:
            yield bed
        finally:
            bed.close()
