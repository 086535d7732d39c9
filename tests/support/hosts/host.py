"""A Debian host with systemd as its first process: a container that boots, and dies, as a machine does."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.hosts.cgroups import ControlGroups
from tests.support.hosts.image import Suite, build_image
from tests.support.hosts.remote import Remote
from tests.support.hosts.runs import delete_link, ip
from tests.support.machine import patient
from tests.support.process import OwnProcess, program

START_TIMEOUT = 120
"""Seconds. A host is up in three; a busy CI machine may need many times that."""
STATUS_REBOOT = 133
"""systemd-nspawn's exit status when the host wants to boot again."""
HERE = Path(__file__).resolve().parent


class HostFailed(Exception):
    """A host did not start, or did not do what it must; the message has its log."""


class Host(Remote):
    """One host; made by :meth:`Bridge.host`. Its disk keeps everything until the bridge ends."""

    def __init__(
        self,
        name: str,
        suite: Suite,
        address: str,
        *,
        folder: Path,
        groups: ControlGroups,
        machine: str,
        bridge: str,
        key: Path,
        public_key: str,
        services: bool = False,
    ) -> None:
        super().__init__(name, address, key, folder)
        self.suite = suite
        self.groups = groups
        self._link = f"vb-{machine}"  # as systemd-nspawn names it
        self._folder, self._machine, self._bridge = folder, machine, bridge
        self._image = build_image(suite, services=services)
        self._process: OwnProcess | None = None
        self._prepare(public_key)

    # --- power ------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it is switched on."""
        return self._process is not None and self._process.running

    def start(self) -> Self:
        """Switch it on, and wait until all its services are up."""
        self.launch()
        return self.wait_until_up()

    def launch(self, names: str = "") -> None:
        """Switch it on, and do not wait.

        :param names: lines for /etc/hosts; as they were if empty.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is on already")
        # Its init may have been killed, so that something is left of the last time.
        self._wait_until_off()
        if names:
            self.write("/etc/hosts", names)
        self.groups.create()
        command = ["/bin/sh", str(HERE / "launch.sh"), self.groups.name, str(self._image), str(self._folder)]
        command += [f"--machine={self._machine}", f"--hostname={self.name}", f"--network-bridge={self._bridge}"]
        command += ["--kill-signal=SIGRTMIN+3", "--resolv-conf=off", "--timezone=off", "--link-journal=no"]
        self._process = OwnProcess(command, self._folder / "console.log")

    def wait_until_up(self) -> Self:
        """Wait until systemd has started everything.

        :raises HostFailed: if it ends, takes too long or has failed units.
        """
        deadline = time.monotonic() + patient(START_TIMEOUT)
        state = ""
        while state not in ("running", "degraded"):
            if not self.running or time.monotonic() > deadline:
                raise HostFailed(f"{self.name} is not up (state {state!r}):\n{self.log()}")
            left = max(deadline - time.monotonic(), 1)
            with suppress(subprocess.TimeoutExpired):
                # Until sshd is up this fails at once, or after ssh's own time-out.
                state = self.run("systemctl is-system-running --wait", check=False, timeout=left).stdout.strip()
            if not state:
                time.sleep(0.1)
        if state == "degraded":
            failed = self.run("systemctl --failed --plain --no-legend").stdout
            raise HostFailed(f"{self.name} has failed units:\n{failed}\n{self.log()}")
        # Who logged in while it booted may have got no session of systemd's.
        self.disconnect()
        return self

    def stop(self) -> None:
        """Shut it down in an orderly way."""
        if self._process is not None:
            self._process.end(timeout=90)
        self._wait_until_off()

    def power_cut(self) -> None:
        """Switch it off at once. What was written survives even if not synced, as this machine's kernel lives on."""
        self._wait_until_off()

    def reboot(self) -> Self:
        """Have it boot again, as ``systemctl reboot`` does, and wait until it is up.

        :raises HostFailed: if it does not end, or not as for a reboot.
        """
        self.run("systemctl reboot", check=False)
        assert self._process is not None
        status = self._process.wait(90)
        if status != STATUS_REBOOT:
            raise HostFailed(f"{self.name} ended with {status} instead of rebooting:\n{self.log()}")
        return self.start()

    def _wait_until_off(self) -> None:
        # The cable first: a machine without power sends no FIN and no RST, but the sockets of killed processes do. They
        # also keep the network namespace alive, for minutes, and with it the cable.
        delete_link(self._link)
        self.disconnect()
        self.groups.kill()
        self.collect()
        self.groups.remove()

    def collect(self) -> None:
        """Collect the status of a host that was killed."""
        if self._process is not None:
            self._process.wait()

    # --- network ----------------------------------------------------------------------------

    def partition(self) -> None:
        """Cut its cable: packets vanish in both directions, and connections stay as they are."""
        # But for that of `run`, which would be waited for before a new one is tried.
        self.disconnect()
        ip("link", "set", self._link, "down")

    def heal(self) -> None:
        """Mend its cable; TCP goes on by itself, within some seconds."""
        ip("link", "set", self._link, "up")

    def ansible_variables(self) -> dict[str, Any]:
        """The host's variables for an inventory: user ``admin``, over SSH."""
        return {
            "ansible_host": self.address,
            "ansible_user": "admin",
            "ansible_ssh_private_key_file": str(self.key),
            # ServerAlive… is in it: without, a connection that Ansible shares hangs when the host dies.
            "ansible_ssh_common_args": " ".join(self.options),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    # --- what it does -----------------------------------------------------------------------

    def journal(self, unit: str = "", *options: str, output: str = "cat") -> str:
        """What journalctl says of a unit (or a pattern of units), or of everything."""
        command = ["journalctl", "--no-pager", "-q", "-o", output, *options, *(["-u", f"'{unit}'"] if unit else [])]
        return self.run(" ".join(command)).stdout

    def console(self, command: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as root without the network, as for a host that is cut off.

        It is not part of the host's control groups, and its failure is no error.
        """
        nsenter = [program("nsenter"), "--target", str(self._init_pid()), "--all", "--wdns=/", "/bin/sh", "-c", command]
        return subprocess.run(
            nsenter, capture_output=True, text=True, errors="replace", timeout=patient(timeout), check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def memory_bytes(self) -> int:
        """Memory of all its processes, without the kernel's caches."""
        return self.groups.memory_bytes()

    def cpu_seconds(self) -> float:
        """CPU time it has used since it was switched on."""
        return self.groups.cpu_seconds()

    def disk_bytes(self) -> int:
        """What it has written and kept: the difference from its image."""
        files = (Path(folder) / name for folder, _, names in os.walk(self._folder / "changes") for name in names)
        return sum(file.lstat().st_blocks * 512 for file in files)

    def log(self, lines: int = 200) -> str:
        """The end of its journal, or of its console if there is none, whether it runs or not."""
        command = [program("journalctl"), "-q", "-n", str(lines), "--no-pager", "-o", "short-precise"]
        command += ["-D", str(self._folder / "changes/var/log/journal")]
        journal = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        return journal.stdout or (self._process.output()[-4000:] if self._process else "(it was never on)")

    def _init_pid(self) -> int:
        for pid in self.groups.pids():
            with suppress(OSError):
                status = dict(
                    line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
                )
                if status["NSpid"].split()[1:] == ["1"]:
                    return pid
        raise RuntimeError(f"{self.name} does not run")

    # --- its disk before it starts ----------------------------------------------------------

    def write(self, path: str, text: str, mode: int | None = None) -> None:
        """Write a file while the host is off. One that is in the image keeps its owner and mode.

        :raises RuntimeError: if it is on: its disk would be changed under it.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is on")
        relative = Path(path).relative_to("/")
        for part in reversed(relative.parents):
            target = self._folder / "changes" / part
            if not target.is_dir():
                target.mkdir()
                self._copy_owner(part)
        (self._folder / "changes" / relative).write_text(text)
        self._copy_owner(relative)
        if mode is not None:
            (self._folder / "changes" / relative).chmod(mode)

    def read(self, path: str) -> str:
        """A file as it is on the disk, whether the host runs or not."""
        relative = Path(path).relative_to("/")
        changed = self._folder / "changes" / relative
        return (changed if changed.exists() else self._image / relative).read_text()

    def _copy_owner(self, relative: Path) -> None:
        original, target = self._image / relative, self._folder / "changes" / relative
        if original.exists():
            shutil.copystat(original, target)
        # What is not in the image belongs to whom the folder belongs.
        status = (original if original.exists() else target.parent).stat()
        os.chown(target, status.st_uid, status.st_gid)

    def _prepare(self, public_key: str) -> None:
        for name in ("changes", "work", "root"):
            (self._folder / name).mkdir(parents=True)
        self.write("/etc/machine-id", f"{secrets.token_hex(16)}\n")
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        network = (
            f"[Match]\nName=host0\n[Network]\nAddress={self.address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        )
        self.write("/etc/systemd/network/10-host0.network", network)
        self.write("/etc/first-process", (HERE / "first-process.sh").read_text())
        for home in ("/root", "/home/admin"):
            self.write(f"{home}/.ssh/authorized_keys", public_key, 0o600)

    def __enter__(self) -> Self:
        try:
            return self if self.running else self.start()
        except BaseException:
            self.power_cut()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power_cut()
