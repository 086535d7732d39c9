"""The user's own program, which gets the message as JSON on standard input."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from ha_monitor.config.notify import Exec
from ha_monitor.errors import reason_of
from ha_monitor.notify.channel import Deadline, Refused, TryAgain
from ha_monitor.notify.message import Message, document_of

MAX_STDERR = 2000
"""Bytes of standard error that are kept; the rest is read and dropped."""
TEMPORARY = os.EX_TEMPFAIL
"""The exit status by which a program asks for a retry."""
_SETTINGS_PREFIX, _SYSTEMD_VARIABLES = "HA_MONITOR_", ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
_POLL_INTERVAL = 0.05


class ExecChannel:
    """See `channel.Channel`. The program and all processes that it started have ended when `deliver` returns."""

    def __init__(self, settings: Exec) -> None:
        self._command = list(settings.command)

    def deliver(self, message: Message, deadline: Deadline) -> str:
        """Exit status 0 means taken, 75 asks for a retry, and any other status means refused."""
        name = self._command[0]
        try:
            # In memory, so that a program that does not read it blocks nothing.
            with os.fdopen(os.memfd_create("message"), "w+b") as given:
                given.write(msgspec.json.encode(document_of(message)))
                given.seek(0)
                process = subprocess.Popen(
                    self._command,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=environment_for(os.environ, message),
                    start_new_session=True,
                )
        except OSError as error:
            raise Refused(f"{name}: it cannot be started: {reason_of(error)}") from None
        said = b""
        try:
            said = _stderr_until_exit(process, deadline, name)
        finally:
            # Kill the whole process group before the process is reaped: until then its id cannot be reused.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
        if process.returncode == 0:
            return ""
        text = reason_of(ValueError(said.decode("utf-8", "replace"))) if said.strip() else ""
        outcome = f"{name}: exit status {process.returncode}{f': {text}' if text else ''}"
        raise TryAgain(outcome, is_answer=True) if process.returncode == TEMPORARY else Refused(outcome)

    def probe(self, _deadline: Deadline) -> str:
        name = self._command[0]
        if shutil.which(name) is None:
            raise Refused(f"{name}: there is no such program, or it may not be executed")
        return f"{name} can be executed"


def environment_for(environment: Mapping[str, str], message: Message) -> dict[str, str]:
    """The environment for the program: this process's own, without the settings, which may contain passwords."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_SETTINGS_PREFIX) and name not in _SYSTEMD_VARIABLES
    }
    return {**kept, f"{_SETTINGS_PREFIX}DELIVERY_ID": message.id}


def _stderr_until_exit(process: subprocess.Popen[bytes], deadline: Deadline, name: str) -> bytes:
    """What the program writes to standard error until it ends. The process is not reaped.

    :raises TryAgain: if it does not end in time; it may have done its work nevertheless.
    """
    assert process.stderr is not None
    said, is_open = b"", True
    while True:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        wait = 0.0 if ended else min(_POLL_INTERVAL, deadline.left(f"{name}: it did not end", maybe_taken=True))
        readable, _, _ = select.select([process.stderr] if is_open else [], [], [], wait)
        if readable:
            some = os.read(process.stderr.fileno(), 4096)
            is_open = bool(some)
            said = (said + some)[:MAX_STDERR]
        if ended:  # processes that it started may go on writing
            return said
