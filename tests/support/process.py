"""Processes that a test owns: started in a group of their own, stopped by their id and never by a name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

import psutil

from tests.support.machine import machine_load, patient

T = TypeVar("T")

_port_choice = random.SystemRandom()
"""Not seeded: two test runs on one machine must not try the same ports in the same order."""


class ServiceMissing(Exception):
    """A program that a test needs is not installed, or cannot be installed here."""


def fetch(what: str, command: Sequence[str], timeout: float) -> None:
    """Run a command that gets something from the network.

    :param timeout: seconds that it takes at most on an idle machine; it is given longer, see :func:`patient`.
    :raises ServiceMissing: if it fails or takes too long; `what` could not be had.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patient(timeout), check=False)
    except subprocess.TimeoutExpired as error:
        raise ServiceMissing(f"{what} was not there in time") from error
    if done.returncode:
        raise ServiceMissing(f"{what} cannot be had: {(done.stdout + done.stderr)[-500:]}")


def wait_until(
    condition: Callable[[], T], timeout: float = 60, what: str = "the condition", interval: float = 0.02
) -> T:
    """Wait until the condition is true, and return its value.

    :param timeout: seconds that it takes at most on an idle machine; it is given longer, see :func:`patient`.
    :raises TimeoutError: naming ``what`` was waited for, how long, the load, and the last value that was seen.
    """
    return _wait_until(condition, bool, timeout, what, interval)


def wait_for_value(
    read: Callable[[], object], wanted: object, timeout: float = 60, what: str = "the value", interval: float = 0.02
) -> None:
    """The same for what must come to equal a value; the error also names the wanted one."""
    _wait_until(read, lambda value: value == wanted, timeout, f"{what}, {wanted!r},", interval)


def _wait_until(read: Callable[[], T], is_wanted: Callable[[T], bool], timeout: float, what: str, interval: float) -> T:
    began = time.monotonic()
    while True:
        value = read()
        if is_wanted(value):
            return value
        waited = time.monotonic() - began
        if waited > patient(timeout):
            raise TimeoutError(
                f"{what} did not happen within {waited:.1f} s ({timeout:g} s on an idle machine; {machine_load()}; "
                f"last value: {value!r})"
            )
        time.sleep(interval)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing uses, and that no other call gets before this process ends: neither here nor
    in other tests of this user that run beside it. So a server that is down for a while finds its port free again.

    It lies below the range from which the kernel takes ports for outgoing connections. Otherwise a client that
    reconnects while its server is down may be given the server's port, and the server cannot come back.
    """
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        low = 32768
    for _ in range(1000):
        port = _port_choice.randrange(10_240, max(low, 12_000))
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        if _ports.take(port):
            return port
    raise OSError("no free TCP port was found")


class _Ports:
    """The ports that were taken: here, and by other processes of this user, each of which locks a byte of one file for
    each of its ports until it ends.
    """

    def __init__(self) -> None:
        self._own: set[int] = set()
        self._file: IO[bytes] | None = None
        self._process = 0
        self._lock = threading.Lock()

    def take(self, port: int) -> bool:
        """Take a port; False if it is taken."""
        with self._lock:
            if self._file is None or self._process != os.getpid():  # locks do not pass to a child process
                self._file = (Path(tempfile.gettempdir()) / f"ha-monitor-tests-{os.getuid()}.ports").open("ab")
                self._process = os.getpid()
            if port in self._own:
                return False
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            except BlockingIOError:
                return False
            self._own.add(port)
            return True


_ports = _Ports()


def program(name: str, *folders: str) -> str:
    """Path of a program, from the folders first and then from PATH.

    :raises ServiceMissing: if it is not installed.
    """
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServiceMissing(f"{name} is not installed")
    return found


class OwnProcess:
    """A child process with a session and a log file of its own."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        death_signal: str = "KILL",
    ) -> None:
        """Start the command.

        :param death_signal: what it gets if the tests die without cleaning up, so that nothing is left behind.
        """
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_with_death_signal(death_signal), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, which is the id of the process group too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet (it may be paused)."""
        return self.returncode is None

    @property
    def returncode(self) -> int | None:
        """Exit status (negative for a signal), or None while it runs."""
        if self._process.returncode is not None:
            return self._process.returncode
        # Only looked at and not collected: an id that is not collected cannot be given to another process, so
        # that a signal sent a moment later cannot hit a stranger.
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def send(self, signum: int) -> None:
        """Send a signal to the process alone, not to its children. No error if it has ended."""
        if self.running:
            self._process.send_signal(signum)

    def send_all(self, signum: int) -> None:
        """Send a signal to the process and all that descend from it, even those in other groups."""
        if not self.running:
            return
        try:
            processes = [p := psutil.Process(self.pid), *p.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signum)

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end, and return the exit status. Children that it left in its group end with it.

        :raises TimeoutError: if it does not end in time.
        """
        wait_until(lambda: not self.running, timeout, f"the end of process {self.pid}")
        if not self._is_collected:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._collect()

    @property
    def _is_collected(self) -> bool:
        return self._process.returncode is not None

    def _collect(self) -> int:
        return self._process.wait()

    def end(self, signum: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Ask it to stop; kill it and its children if it does not. Returns the exit status."""
        self.send(signum)
        self.send(signal.SIGCONT)
        try:
            return self.wait(timeout)
        except TimeoutError:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL to the process and all its descendants, as a crash of the machine would; the status."""
        self.send_all(signal.SIGKILL)
        return self.wait()


def _with_death_signal(name: str) -> list[str]:
    # The kernel sends the signal when the *thread* that started the process ends: right for the main one only.
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", name, "--"]
