"""The hosts are what the other tests take them for: machines of their own, with a network that can be cut."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.support.hosts import Bridge, CommandFailed, Host
from tests.support.hosts.bridge import allow_watchers
from tests.support.measured import Measured
from tests.support.process import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Three(NamedTuple):
    one: Host
    two: Host
    new: Host
    """The one with Debian 13."""


@pytest.fixture(scope="module")
def hosts(bridge: Bridge, measured: Measured) -> Three:
    three = Three(bridge.host("one"), bridge.host("two"), bridge.host("new", "trixie"))
    began = time.monotonic()
    bridge.start()
    measured("three hosts up, images there", f"{time.monotonic() - began:.1f} s")
    for host in three:
        resources = f"{host.memory_bytes() / 1e6:.0f} MB memory, {host.disk_bytes() / 1e6:.0f} MB disk"
        measured(f"{host.suite}, at rest", f"{resources}, {host.cpu_seconds():.1f} s CPU to start")
    return three


def answer(host: Host, command: str) -> str:
    return host.run(command).stdout.strip()


def boot_id(host: Host) -> str:
    # The kernel's own boot id is this machine's; systemd gives each start of a host another.
    return answer(host, "journalctl -q -n 1 -o json | jq -r ._BOOT_ID")


def reaches(host: Host, other: Host) -> bool:
    """Whether a new TCP connection is answered, as seen from the inside of a host that may be cut off."""
    script = f"import socket; print(socket.create_connection(('{other.name}', 22), 2).recv(3))"
    return host.console(f'python3 -c "{script}"').stdout == "b'SSH'\n"


def living(pids: Iterable[int]) -> list[int]:
    """Those that have not ended; one that nobody has collected yet has."""
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


@pytest.mark.parametrize(("limit", "after"), [("128\n", "1024"), ("8192\n", "8192\n")])
def test_the_kernels_limit_is_raised_for_many_hosts_and_never_lowered(tmp_path: Path, limit: str, after: str) -> None:
    file = tmp_path / "max_user_instances"
    file.write_text(limit)

    allow_watchers(file)

    assert file.read_text() == after


def test_each_host_runs_its_own_systemd_and_its_own_debian(hosts: Three) -> None:
    assert [answer(host, "cat /proc/1/comm") for host in hosts] == ["systemd"] * 3
    assert [answer(host, "systemctl is-system-running") for host in hosts] == ["running"] * 3
    assert [answer(host, ". /etc/os-release; echo $VERSION_ID") for host in hosts] == ["12", "12", "13"]
    assert [answer(host, "hostname") for host in hosts] == ["one", "two", "new"]
    assert len({answer(host, "cat /etc/machine-id") for host in hosts}) == 3
    assert len({boot_id(host) for host in hosts}) == 3


def test_what_a_unit_prints_is_in_its_journal_and_in_no_other_hosts(hosts: Three) -> None:
    for host in hosts:
        host.run(f"systemd-run --quiet --wait --unit=hello echo hello from {host.name}")

    for host in hosts:
        # A line that came through stdout has no other source than the unit.
        assert host.journal("hello", "_TRANSPORT=stdout") == f"hello from {host.name}\n"


def test_the_limits_of_a_unit_are_enforced(hosts: Three) -> None:
    for host in hosts:
        limited = "systemd-run --quiet --wait -p MemoryMax=50M -p MemorySwapMax=0 --unit=greedy"
        done = host.run(f"{limited} python3 -c 'bytearray(200_000_000)'", check=False)

        assert done.returncode != 0
        # With cgroup v2 the result is "oom-kill", with v1 "signal".
        assert "status=9/KILL" in host.journal("greedy")
        host.run("systemctl reset-failed greedy")


def test_admin_is_root_by_sudo_only(hosts: Three) -> None:
    for host in hosts:
        assert host.run("id -un", user="admin").stdout == "admin\n"
        assert host.run("sudo -n id -un", user="admin").stdout == "root\n"
        with pytest.raises(CommandFailed, match="Permission denied"):
            host.run("cat /etc/shadow", user="admin")


def test_files_and_folders_are_copied_in_both_directions(hosts: Three, tmp_path: Path) -> None:
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "there" / "deep" / "file").write_bytes(bytes(range(256)))

    hosts.new.push(tmp_path / "there", "/root/")
    hosts.new.pull("/root/there", tmp_path / "back")

    assert (tmp_path / "back" / "deep" / "file").read_bytes() == bytes(range(256))


def test_a_package_is_installed_without_a_network(hosts: Three, tmp_path: Path) -> None:
    control = tmp_path / "hello" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: hello-hosts\nVersion: 1.0\nArchitecture: all\nMaintainer: Tests <tests@localhost>\n"
        "Depends: python3, adduser, init-system-helpers\nDescription: nothing\n"
    )
    package = tmp_path / "hello.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(control.parents[1]), str(package)], check=True)

    for host in hosts:
        host.push(package, "/tmp/")
        host.run("apt-get update && apt-get install -y /tmp/hello.deb")

        assert answer(host, "dpkg-query -W -f '${Status}' hello-hosts") == "install ok installed"


def test_hosts_reach_each_other_by_name_and_nobody_else(hosts: Three) -> None:
    for host in hosts:
        assert [reaches(host, other) for other in hosts] == [True] * 3
        assert "unreachable" in host.run("ip route get 192.0.2.1", check=False).stderr


@pytest.fixture
def healed(hosts: Three) -> Iterator[None]:
    """No cut cable is left to the next test."""
    yield
    hosts.one.heal()


@pytest.mark.usefixtures("healed")
def test_a_partition_hides_a_host_and_its_connections_go_on_when_it_is_healed(hosts: Three, measured: Measured) -> None:
    with socket.create_connection((hosts.one.address, 22), timeout=60) as connection:
        assert connection.recv(4) == b"SSH-"

        hosts.one.partition()

        assert [reaches(hosts.two, hosts.one), reaches(hosts.one, hosts.two)] == [False, False]
        wait_until(lambda: reaches(hosts.two, hosts.new), what="a connection")
        assert hosts.one.run("true", check=False).returncode == 255
        assert hosts.one.console("systemctl is-system-running").stdout == "running\n"
        connection.sendall(b"SSH-2.0-test\r\n")

        hosts.one.heal()
        mended = time.monotonic()
        wait_until(lambda: reaches(hosts.two, hosts.one), what="a connection after the partition")
        measured("healed, until a new connection", f"{time.monotonic() - mended:.1f} s")
        # What was sent into the partition arrives, and sshd, whose greeting was seen in part, goes on.
        answered = b""
        while b"curve25519" not in answered:
            answered += connection.recv(4096) or pytest.fail("the connection was closed")
        measured("healed, until an old connection goes on", f"{time.monotonic() - mended:.1f} s")


def test_a_power_cut_ends_all_at_once_and_the_disk_stays(hosts: Three, measured: Measured) -> None:
    host = hosts.one
    first = boot_id(host)
    host.run("echo kept >/root/kept; systemd-run --unit=endless sh -c 'trap : TERM; while :; do sleep 1; done'")
    pids = host.groups.pids()

    with socket.create_connection((host.address, 22), timeout=60) as connection:
        assert connection.recv(4) == b"SSH-"
        connection.settimeout(2)
        began = time.monotonic()
        host.power_cut()
        measured("power cut", f"{time.monotonic() - began:.1f} s")
        # No FIN and no RST, which killed processes would send: a peer is not told.
        with pytest.raises(TimeoutError):
            while connection.recv(4096):
                pass

    assert not host.running
    assert living(pids) == []
    assert not reaches(hosts.two, host)

    began = time.monotonic()
    host.start()
    measured("up again after a power cut", f"{time.monotonic() - began:.1f} s")

    assert answer(host, "cat /root/kept") == "kept"
    assert boot_id(host) != first
    assert first in answer(host, "journalctl -q --list-boots --no-pager")
    assert "Journal stopped" not in answer(host, "journalctl -q -b -1")
    wait_until(lambda: reaches(hosts.two, host), what="a connection")


@pytest.mark.parametrize("name", ["two", "new"])
def test_after_a_reboot_the_enabled_units_come_back(hosts: Three, name: str, measured: Measured) -> None:
    host: Host = getattr(hosts, name)
    first = boot_id(host)
    unit = "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
    host.run("cat >/etc/systemd/system/sleeper@.service", stdin=unit)
    host.run("systemctl enable sleeper@enabled && systemctl start sleeper@enabled sleeper@started")

    began = time.monotonic()
    host.reboot()
    measured(f"reboot of {host.suite}", f"{time.monotonic() - began:.1f} s")

    assert boot_id(host) != first
    assert answer(host, "systemctl is-active sleeper@enabled sleeper@started || true").split() == ["active", "inactive"]
    # It was shut down in an orderly way, so the journal has the end of the unit.
    assert "Stopped sleeper@started.service" in answer(host, "journalctl -q -b -1 -u sleeper@started")


def test_a_host_that_was_shut_down_starts_again(hosts: Three) -> None:
    hosts.two.stop()
    assert not hosts.two.running

    hosts.two.start()

    assert "Journal stopped" in answer(hosts.two, "journalctl -q -b -1")


BRIDGE_WITH_A_HOST = """
import signal
from tests.support.hosts import Bridge
with Bridge() as bridge:
    host = bridge.host("orphan").start()
    print(bridge.run.folder, *host.groups.pids(), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("janitor_too", [False, True], ids=["tests killed", "tests and janitor killed"])
def test_nothing_stays_behind_when_the_tests_are_killed(hosts: Three, janitor_too: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", BRIDGE_WITH_A_HOST], cwd=ROOT, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        name, *pids = tests.stdout.readline().decode().split()
        folder = Path(name)
        assert len(pids) > 5
        if janitor_too:
            for line in subprocess.check_output(["pgrep", "-f", f"hosts.runs {folder}$"], text=True).split():
                os.kill(int(line), signal.SIGKILL)
        tests.kill()

    if janitor_too:
        assert folder.exists()

    def is_gone() -> bool:
        if janitor_too:
            # The next run does it; one that comes too early finds the killed one still dying.
            with Bridge():
                pass
        return not folder.exists()

    wait_until(is_gone, what="the end of a run that was killed", interval=1)
    assert living(int(pid) for pid in pids) == []
    assert not Path("/sys/class/net", folder.name).exists()
    assert list(Path("/sys/fs/cgroup").glob(f"*/{folder.name}")) == []
    assert all(host.running for host in hosts)
