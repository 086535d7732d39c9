"""Lines to journald by its native protocol, so that they can be searched by field.

The protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Mapping

from ha_monitor.clock import Clock
from ha_monitor.errors import OutputLost
from ha_monitor.outputs.output import Line

SOCKET = "/run/systemd/journal/socket"
RETRY_EVERY = 0.1
"""Seconds between attempts while journald is unavailable."""
GIVE_UP_AFTER = 10.0
"""Seconds after which it gives up: a restart of journald takes less, and the watchdog would not wait much longer."""
LOOK_EVERY = 0.01
"""Seconds between looks whether journald has read everything."""
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_TOO_LARGE = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class JournalOutput:
    """Sends each line as one entry of the journal.

    MESSAGE is the line; it can be searched by PRIORITY and the fields that begin with HA_. If journald is slow, the
    socket blocks; while journald restarts, sending is retried: nothing is dropped. An instance cannot continue without
    it.
    """

    def __init__(self, clock: Clock, path: str = SOCKET, identifier: str = "ha-monitor") -> None:
        self._clock = clock
        self._path = path
        self._identifier = identifier.encode()
        self._socket: socket.socket | None = None

    def write(self, lines: list[Line]) -> None:
        """:raises OutputLost: if journald is unavailable for :data:`GIVE_UP_AFTER`."""
        for line in lines:
            self._send(self._entry(line))

    def settle(self) -> None:
        """Wait until journald has dealt with what was sent, at most for :data:`GIVE_UP_AFTER`.

        To be called before the process ends. journald looks up in /proc which unit a line comes from: if the process is
        gone by then, `journalctl -u` and `systemctl status` lack its last lines, and so the reason why it ended.
        """
        sent_by = self._socket
        if sent_by is None:
            return
        deadline = self._clock.monotonic() + GIVE_UP_AFTER
        is_marked = False
        try:
            while True:
                # journald takes one datagram after the other, and ignores one that is empty: when it has taken that,
                # it is through with those before.
                is_marked = is_marked or _mark(sent_by)
                if (is_marked and not _unread(sent_by)) or self._clock.monotonic() >= deadline:
                    return
                self._clock.sleep(LOOK_EVERY)
        except (OSError, ValueError):
            return  # journald is gone, or another thread has closed this socket and connected anew

    def _entry(self, line: Line) -> bytes:
        fields = [
            b"SYSLOG_IDENTIFIER=%b\nPRIORITY=%d\n" % (self._identifier, _PRIORITY.get(line.level, 6)),
            _field(b"HA_EVENT", line.event.encode("utf-8", "replace")),
        ]
        index = (
            (b"HA_TASK_ID", line.task_id),
            (b"HA_TASK_NAME", line.task_name),
            (b"HA_QUEUE", line.queue),
            (b"HA_WORKER", line.worker),
            (b"HA_ROOT_ID", line.root_id),
            (b"HA_ERROR", line.error_group),
        )
        fields += [_field(name, value.encode("utf-8", "replace")) for name, value in index if value is not None]
        fields.append(_field(b"MESSAGE", line.text))
        return b"".join(fields)

    def _send(self, entry: bytes) -> None:
        deadline: float | None = None
        while True:
            try:
                self._send_once(entry)
                return
            except OSError as error:
                # journald is restarting: systemd keeps its socket, but it may be missing for a moment.
                self._close()
                now = self._clock.monotonic()
                deadline = now + GIVE_UP_AFTER if deadline is None else deadline
                if now >= deadline:
                    raise OutputLost(f"journald accepts no lines at {self._path}: {error.strerror}") from error
                self._clock.sleep(RETRY_EVERY)

    def _send_once(self, entry: bytes) -> None:
        try:
            self._connected().send(entry)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_large(entry)

    def _send_large(self, entry: bytes) -> None:
        """Send the entry as a sealed memory file, as the protocol requires if it does not fit into a datagram."""
        memory = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(entry)
            while view:
                view = view[os.write(memory, view) :]
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
            descriptors = array.array("i", [memory])
            self._connected().sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        finally:
            os.close(memory)

    def _connected(self) -> socket.socket:
        connected = self._socket
        if connected is None:
            # Several threads write: the socket is shared only once it is connected, and a thread uses the one that it
            # has connected, even if another thread has replaced it.
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                connected.connect(self._path)
            except OSError:
                connected.close()
                raise
            self._socket = connected
        return connected

    def _close(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()


def _mark(connected: socket.socket) -> bool:
    """Send an empty datagram. False if the queue has no room for it."""
    try:
        connected.send(b"", socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def _unread(connected: socket.socket) -> int:
    """Bytes of memory for datagrams that the reader has not taken yet (SIOCOUTQ, as in the kernel's unix_ioctl)."""
    count = array.array("i", [0])
    fcntl.ioctl(connected, termios.TIOCOUTQ, count, True)
    return count[0]


def _field(name: bytes, value: bytes) -> bytes:
    # A value with a newline in it is sent with its length.
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name, struct.pack("<Q", len(value)), value)
    return b"%b=%b\n" % (name, value)


def is_journal(file_descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether a file descriptor leads to the journal, as systemd says in JOURNAL_STREAM (systemd.exec(5))."""
    try:
        status = os.fstat(file_descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
