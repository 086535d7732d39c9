"""The fleet under test: three hosts, their services, the load, what is installed, and Ansible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ha_monitor.exit_status import ExitStatus
from ha_monitor.version import __version__
from tests.fleet.load import Load, Truth
from tests.fleet.packages import DIST, built_packages, package_pattern
from tests.fleet.playbook import Ansible
from tests.fleet.repository import Repository
from tests.fleet.watch import Watch
from tests.support.hosts import Bridge, CommandFailed, Host, Services, Suite
from tests.support.hosts.cgroups import ControlGroups
from tests.support.process import wait_for_value, wait_until
from tests.support.workers import CeleryWorker

NODE_ID = "shop"
CONFIGURATION = "/etc/ha-monitor/ha-monitor.toml"
ASKED_EACH = 2.0
"""Seconds after which the status is asked for again: a program is started for it, half a second of a core."""
STATUS = "CREDENTIALS_DIRECTORY=/etc/ha-monitor/credentials ha-monitor status --json"
NAMES = ("vm1", "vm2", "vm3")
ZIPPED = Path(__file__).parent / "zipped.py"
PYTHON: dict[Suite, str] = {"bookworm": "python3.11", "trixie": "python3.13"}
ALL = {(host, "1") for host in NAMES}
"""Host and name of each instance while there is one on each host."""
NINE = {(host, name) for host in NAMES for name in "123"}
THREE: dict[str, Any] = {
    "ha_monitor_instances": 3,
    "ha_monitor_instance_settings": {"3": {"http": {"listen": "127.0.0.1:954%i"}}},
}
"""Variables for three instances a host, of which one listens."""
CONFIGURED: dict[str, Any] = {
    "ha_monitor_settings": {
        "queue": {"prefix": "celeryev.v2", "message_ttl": 3600},
        "handlers": {"modules": ["fleet_alerts"]},
        "http": {"listen": "0.0.0.0:954%i"},
    },
    "ha_monitor_handlers": [str(Path(__file__).parent / "handlers/fleet_alerts.py")],
    "ha_monitor_web": True,
}
"""Variables for a new queue, a handler, instances that listen, and the pages on each host."""
UNCHANGED = dict.fromkeys(NAMES, 0)


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
        self.address = bridge.address
        """Of this machine, as the hosts see it."""
        self.services = Services(bridge)
        self.hosts = [bridge.host("vm1"), bridge.host("vm2"), bridge.host("vm3", "trixie")]
        for host in self.hosts:
            host.write(f"/etc/{PYTHON[host.suite]}/sitecustomize.py", ZIPPED.read_text())
        built_packages()
        self.ansible = Ansible(
            self.hosts,
            folder / "ansible",
            {
                "ha_monitor_version": __version__,
                "ha_monitor_source": package_pattern(str(DIST)),
                "ha_monitor_node_id": NODE_ID,
                "ha_monitor_broker_url": self.services.broker_url,
                "ha_monitor_store_url": self.services.redis_url(),
            },
            # It is given the cores first, as the hosts are.
            ControlGroups(f"{bridge.run.name}/administrator"),
        )
        bridge.start()
        self._stack = ExitStack()
        self._watch: Watch | None = None
        self.repository = self._stack.enter_context(Repository(folder / "repository", self.address))
        self.load = Load(self.services.broker_url)

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def begin_load(self) -> None:
        """Start the truth, a worker and the tasks. The fleet's queue exists, or events of before would count."""
        truth = self._stack.enter_context(Truth(self.services.broker_url))
        self._stack.enter_context(CeleryWorker(self.services.broker_url, confirm_publish=True))
        self._stack.enter_context(self.load)
        self._watch = Watch(self.hosts, self.load, truth)
        wait_until(lambda: len(truth.published()) > 50, 60, "the load")

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

    def status(self) -> dict[str, Any]:
        """What `ha-monitor status` says, on the host that no test cuts off; nothing if the store is away."""
        for _ in range(3):
            asked = self.host("vm2").console(STATUS)
            if asked.returncode != ExitStatus.UNAVAILABLE:
                break  # a store that answers too late once is not away
        return json.loads(asked.stdout or "{}")

    def consuming(self) -> set[Instance]:
        """All instances that consume."""
        return {
            Instance(one["host"], one["instance"], one["pid"], one["version"])
            for one in self.status().get("instances", [])
            if one["alive"] and one["state"] == "consuming"
        }

    def names(self) -> set[tuple[str, str]]:
        """Host and name of each instance that consumes."""
        return {(one.host, one.name) for one in self.consuming()}

    def wait_until_consuming(self, names: set[tuple[str, str]], timeout: float = 90) -> None:
        wait_for_value(self.names, names, timeout, f"consuming: {sorted(names)}", ASKED_EACH)

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


def run(host: Host, command: str) -> str:
    """What a command of root's prints, without the network: a session over SSH costs more than most commands.

    :raises CommandFailed: if it ends with an error.
    """
    done = host.console(command)
    if done.returncode:
        raise CommandFailed(host.name, done, command)
    return done.stdout


def fingerprint(host: Host) -> str:
    """Checksums of everything that an instance on a host depends on."""
    folders = "/etc/ha-monitor /etc/systemd/system/ha-monitor@.service.d"
    return run(host, f"find {folders} -type f -exec sha256sum {{}} + | sort; dpkg-query -W ha-monitor")


def starts(fleet: FleetBed) -> dict[str, str]:
    """When each instance was started, by host."""
    command = "systemctl show --property=Id,MainPID,ExecMainStartTimestampMonotonic 'ha-monitor@*'"
    return {host.name: run(host, command) for host in fleet.hosts}


def state_of_pages(host: Host) -> dict[str, str]:
    """What systemd says of the unit of the pages."""
    shown = run(host, "systemctl show --property=ActiveState,UnitFileState,MainPID ha-monitor-web").splitlines()
    return dict(line.split("=", 1) for line in shown)


def page(host: Host, path: str) -> str:
    """A page, as somebody on the host gets it.

    :raises CommandFailed: if there is no answer, or an error.
    """
    command = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9550{path}').read().decode())"
    return run(host, f'python3 -c "{command}"')


def ports(host: Host) -> set[int]:
    """Ports on which instances listen, of TCP or UDP."""
    pids = run(host, "systemctl show --value --property=MainPID 'ha-monitor@*'").split()
    lines = [line.split() for line in run(host, "ss -H -lntup").splitlines()]
    return {int(line[4].rpartition(":")[2]) for line in lines if any(f"pid={pid}," in line[-1] for pid in pids)}
