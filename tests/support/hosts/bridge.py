"""A network of hosts on this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.hosts.cgroups import ControlGroups
from tests.support.hosts.host import Host
from tests.support.hosts.image import Suite
from tests.support.hosts.remote import make_key
from tests.support.hosts.runs import NETWORK, Run, ip
from tests.support.process import ServiceMissing, program

PROGRAMS = ("systemd-nspawn", "mmdebstrap", "unshare", "nsenter", "ip", "ssh", "scp", "ssh-keygen", "journalctl")


WATCHERS = 1024
"""inotify instances that root needs. systemd and what it starts on a host take about a dozen, and all of them count for
root of this machine: the kernel's default, 128, is enough for ten hosts. Several runs may be side by side."""


def allow_watchers(limit: Path = Path("/proc/sys/fs/inotify/max_user_instances")) -> None:
    """Raise the kernel's limit if it is lower. It stays so: other runs may need it by now, and it only permits more."""
    with suppress(OSError):  # where it may not be changed, it may still be enough
        if int(limit.read_text()) < WATCHERS:
            limit.write_text(str(WATCHERS))


def _check_machine() -> None:
    """See whether hosts are possible here.

    :raises ServiceMissing: saying what is missing.
    """
    if os.geteuid() != 0:
        raise ServiceMissing("hosts with systemd need root")
    for name in PROGRAMS:
        program(name)
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        raise ServiceMissing(
            "hosts with systemd need overlayfs, which this kernel does not have (yet): modprobe overlay"
        )
    probe = ControlGroups(f"hosts-probe-{os.getpid()}")
    try:
        probe.create()
    except OSError as error:
        raise ServiceMissing(f"hosts with systemd need control groups that can be written: {error}") from error
    finally:
        probe.remove()


class Bridge:
    """A bridge that this machine is on too, and the hosts on it. At its end they are gone, with all they did."""

    def __init__(self) -> None:
        """Prepare a network.

        :raises ServiceMissing: if hosts are not possible here.
        """
        _check_machine()
        allow_watchers()
        self.hosts: list[Host] = []
        self._run: Run | None = None
        self._public_key = ""

    @property
    def run(self) -> Run:
        """What this network is named after.

        :raises RuntimeError: if the network is not set up.
        """
        if self._run is None:
            raise RuntimeError("the network is not set up")
        return self._run

    @property
    def address(self) -> str:
        """This machine's address on the bridge, from which it can reach the hosts."""
        return self._address(1)

    @property
    def key(self) -> Path:
        """Private SSH key of ``root`` and ``admin`` on all hosts."""
        return self.run.folder / "key"

    def host(self, name: str, suite: Suite = "bookworm", *, services: bool = False) -> Host:
        """Prepare a host with the next free address.

        It is started by ``with``, by its own ``start()``, or with others by the bridge's, which also tells all of
        them each other's names.

        :param services: with RabbitMQ and Redis installed; see :class:`Services` for a host that serves them.
        :raises ServiceMissing: if its image cannot be built.
        """
        if any(host.name == name for host in self.hosts):
            raise ValueError(f"there is a host {name} already")
        number = len(self.hosts) + 2
        host = Host(
            name,
            suite,
            self._address(number),
            folder=self.run.folder / name,
            groups=ControlGroups(f"{self.run.name}/{name}"),
            machine=f"{self.run.name}-{number}",
            bridge=self.run.name,
            key=self.key,
            public_key=self._public_key,
            services=services,
        )
        self.hosts.append(host)
        return host

    def start(self, *hosts: Host) -> None:
        """Start hosts at once, all of them if none is given, and wait until they are up."""
        starting = [host for host in hosts or self.hosts if not host.running]
        for host in starting:
            host.launch(self._names())
        for host in starting:
            host.wait_until_up()

    def _address(self, number: int) -> str:
        return f"{NETWORK}.{self.run.number}.{number}"

    def _names(self) -> str:
        lines = [f"{host.address} {host.name}" for host in self.hosts]
        return "\n".join(["127.0.0.1 localhost", *lines, ""])

    def __enter__(self) -> Self:
        self._run = Run.claim()
        try:
            self._public_key = make_key(self.key)
            # A bridge without an address of its own takes that of a port, and is lost to the others when it changes.
            address = f"02:00:00:00:{self.run.number:02x}:01"
            ip("link", "add", self.run.name, "address", address, "type", "bridge", "forward_delay", "0")
            ip("address", "add", f"{self.address}/24", "dev", self.run.name)
            ip("link", "set", self.run.name, "up")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End all hosts at once, and remove the network."""
        if self._run is not None:
            for host in self.hosts:
                host.disconnect()
            self._run.end()
            for host in self.hosts:
                host.collect()
            self.hosts.clear()
            self._run = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
