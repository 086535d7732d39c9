"""What becomes of the broadcasts to the workers, as tests want to know it."""

from __future__ import annotations

import time

import pytest


class RecordedReports:
    """Keeps what is reported; see `ha_monitor.broker.control.Reports`."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.silences: list[str] = []
        self.alarms: list[str] = []
        self.ends: list[float] = []

    def failed(self, reason: str) -> None:
        self.failures.append(reason)

    def unheard(self, reason: str) -> None:
        self.silences.append(reason)

    def alarm(self, reason: str) -> None:
        self.alarms.append(reason)

    def alarm_over(self, seconds: float) -> None:
        self.ends.append(seconds)


class NoReports:
    """There is nothing to report."""

    def failed(self, reason: str) -> None:
        pytest.fail(reason)

    unheard = alarm = failed

    def alarm_over(self, seconds: float) -> None:
        pytest.fail(f"an alarm of {seconds} s")


class NoAlarm:
    """A broker that takes what is published; see `ha_monitor.pipeline.watch.Publishers`."""

    is_blocked = False

    @property
    def asked_at(self) -> float:
        return time.monotonic()

    def ask_again(self) -> None:
        pass
