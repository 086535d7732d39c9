"""Notifications to the supervisor (systemd)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

import sdnotify

from ha_monitor.clock import Clock
from ha_monitor.schedule import Schedule
from ha_monitor.text.visible import visible


class Supervisor(Protocol):
    """The service manager that started the process and watches it."""

    def ready(self) -> None:
        """The configuration is valid and the loop runs."""

    def status(self, text: str) -> None:
        """What the instance is doing, as a text."""

    def progress(self) -> None:
        """The main loop completed a cycle."""

    def reloading(self) -> None:
        """The configuration is being reloaded; `ready` follows."""

    def stopping(self) -> None:
        """The instance was asked to stop, and is stopping."""


class Systemd:
    """systemd's notification protocol (sd_notify(3)). Does nothing without a listener."""

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._notifier: Any = sdnotify.SystemdNotifier() if environment.get("NOTIFY_SOCKET") else None
        interval = watchdog_interval(environment, os.getpid())
        self._watchdog = None if interval is None else Schedule(clock, interval)
        self._status = ""

    def ready(self) -> None:
        self._notify("READY=1")

    def status(self, text: str) -> None:
        if text != self._status:
            self._status = text
            # One line: text after a newline would be a separate message.
            self._notify(f"STATUS={visible(text)}")

    def progress(self) -> None:
        if self._watchdog is not None and self._watchdog.is_due():
            self._watchdog.restart()
            self._notify("WATCHDOG=1")

    def reloading(self) -> None:
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def stopping(self) -> None:
        self._notify("STOPPING=1")

    def _notify(self, message: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(message)


def watchdog_interval(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two watchdog notifications: a quarter of the watchdog timeout; None without a watchdog.

    WATCHDOG_PID names the process that must notify; a child that inherits the variables need not
    (sd_watchdog_enabled(3)).
    """
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        allowed = int(environment.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return None
    return allowed / 4 if allowed > 0 else None
