"""Commands and files over SSH."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.support.machine import patient
from tests.support.process import program

User = Literal["root", "admin"]
"""``admin`` has no rights of its own, but sudo without a password, as Ansible wants it."""

OPTIONS = (
    *("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"),
    # A host that is cut off or dead is noticed, instead of being waited for until TCP gives up. Connecting includes the
    # greeting of sshd, which takes its time on a busy machine.
    *("IdentitiesOnly=yes", "ConnectTimeout=15", "ServerAliveInterval=5", "ServerAliveCountMax=3"),
    # Known to both releases of Debian. What they would agree on, which withstands quantum computers, takes this machine
    # six times as long.
    "KexAlgorithms=curve25519-sha256",
)


class CommandFailed(Exception):
    """A command on a host ended with an error; the message has its output."""

    def __init__(self, host: str, done: subprocess.CompletedProcess[str], command: str) -> None:
        output = (done.stdout + done.stderr).strip()
        super().__init__(f"{command!r} on {host} ended with {done.returncode}:\n{output[-4000:]}")
        self.returncode = done.returncode
        self.stdout, self.stderr = done.stdout, done.stderr


class Remote:
    """SSH access to one host."""

    def __init__(self, name: str, address: str, key: Path, sockets: Path) -> None:
        """:param sockets: folder for what the connections are shared by, with a short path."""
        self.name, self.address, self.key = name, address, key
        self._sockets = sockets

    @property
    def options(self) -> list[str]:
        """Arguments for ssh and scp, without the destination."""
        return ["-F", "none", "-i", str(self.key), *(part for option in OPTIONS for part in ("-o", option))]

    def run(
        self, command: str, *, user: User = "root", check: bool = True, stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with the user's shell.

        :raises CommandFailed: if it ends with an error and ``check`` is set. A status of 255 is SSH's own.
        :param timeout: seconds that it takes at most on an idle machine.
        :raises subprocess.TimeoutExpired: if it takes much longer; the command may go on.
        """
        done = self._run([program("ssh"), *self._shared(), f"{user}@{self.address}", command], stdin, timeout)
        if check and done.returncode:
            raise CommandFailed(self.name, done, command)
        return done

    def push(self, source: Path, target: str = "/tmp/", *, user: User = "root", timeout: float = 60) -> None:
        """Copy a file or a folder to the host."""
        self._copy([str(source), f"{user}@{self.address}:{target}"], timeout)

    def pull(self, source: str, target: Path, *, user: User = "root", timeout: float = 60) -> None:
        """Copy a file or a folder from the host."""
        self._copy([f"{user}@{self.address}:{source}", str(target)], timeout)

    def disconnect(self) -> None:
        """Close the connections that commands share: the host goes down, or the next command is to log in anew."""
        for socket in self._sockets.glob("ssh-*"):
            user = socket.name.removeprefix("ssh-")
            self._run([program("ssh"), *self._shared(), "-O", "exit", f"{user}@{self.address}"], "", 60)
            socket.unlink(missing_ok=True)

    def _shared(self) -> list[str]:
        # To log in takes a tenth of a second of a core, as much as twenty commands over a connection that is there.
        shared = ("ControlMaster=auto", f"ControlPath={self._sockets}/ssh-%r", "ControlPersist=yes")
        return [*self.options, *(part for option in shared for part in ("-o", option))]

    def _copy(self, paths: Sequence[str], timeout: float) -> None:
        done = self._run([program("scp"), "-q", "-r", *self._shared(), *paths], "", timeout)
        if done.returncode:
            raise CommandFailed(self.name, done, f"scp {' '.join(paths)}")

    @staticmethod
    def _run(command: Sequence[str], stdin: str, timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patient(timeout),
            check=False,
        )


def make_key(path: Path) -> str:
    """Make a key pair, and return the public key."""
    command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    return path.with_suffix(".pub").read_text()
