"""Balances what the broker was given against what the hosts' journals say, for each thing that is done to the fleet."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.fleet.load import Load, Truth
from tests.support.hosts import CommandFailed, Host
from tests.support.ledger import Published, balance, is_event
from tests.support.process import wait_until

SETTLE_TIMEOUT = 120
"""Seconds. What a host held when it was cut off is announced by others after two heartbeats and a lease, 27 s."""


class Row:
    """One row of the table at the end; complete when its `with` has ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.0
        self.published = self.lost = self.doubled = self.nameless = 0
        self.gap = 0.0
        """Seconds, the longest between two lines about events, of whichever host."""
        self.note = ""

    def assert_guarantee(self, *, may_double: bool = False) -> None:
        """Nothing lost; nothing doubled unless a host died or was cut off."""
        assert self.published > 0, f"{self}: nothing was published, so that nothing is proven"
        assert self.lost == 0, f"{self}"
        assert may_double or self.doubled == 0, f"{self}"

    def __str__(self) -> str:
        return (
            f"{self.name:<42} {self.seconds:>6.0f} s {self.published:>7} {self.lost:>5} {self.doubled:>8}"
            f" {self.gap:>8.2f} s  {self.note}"
        )


HEADER = f"{'what was done':<42} {'took':>8} {'events':>7} {'lost':>5} {'doubled':>8} {'longest gap':>10}"


class Watch:
    """Reads the journals of some hosts, as far as they can be reached."""

    def __init__(self, hosts: Sequence[Host], load: Load, truth: Truth) -> None:
        self.rows: list[Row] = []
        self.lines: list[dict[str, Any]] = []
        """All lines about events so far."""
        self.hosts = list(hosts)
        self._load, self._truth = load, truth
        self._cursors: dict[str, str] = {}
        self._counted: set[str] = set()

    @contextmanager
    def over(self, name: str) -> Iterator[Row]:
        """Watch what is done within; at its end the events of that time are counted. An error counts nothing."""
        row = Row(name)
        began = time.time()
        yield row
        ended = time.time()
        row.seconds = row.seconds or ended - began
        self._load.pause()
        try:
            self._count(row, began, ended)
        finally:
            self._load.resume()
        self.rows.append(row)

    def read(self) -> None:
        """Take the new lines of all hosts that answer."""
        for host in self.hosts:
            with suppress(CommandFailed, subprocess.TimeoutExpired):
                self._read(host)

    def _count(self, row: Row, began: float, ended: float) -> None:
        published = self._settled()
        with suppress(TimeoutError):  # the row says how many are missing

            def announced() -> bool:
                self.read()
                return published.missing(self.lines) == 0

            wait_until(announced, SETTLE_TIMEOUT, "every event in a journal", interval=1)
        account = balance(published, [line for line in self.lines if line["event_id"] in published.events])
        row.published, row.lost, row.doubled = account.published, account.lost, account.doubled
        row.nameless = account.nameless
        times = sorted(t for line in self.lines if began <= (t := _seconds(line["timestamp"])) <= ended)
        row.gap = max((later - earlier for earlier, later in pairwise([began, *times, ended])), default=ended - began)
        self._counted |= published.events.keys()

    def _settled(self) -> Published:
        """The events that were not counted yet, when no more come."""
        sizes: list[int] = []

        def quiet() -> bool:
            sizes.append(len(self._truth.events()))
            return len(sizes) > 5 and sizes[-1] == sizes[-6]

        wait_until(quiet, 120, "the end of all tasks", interval=0.5)
        published = Published()
        events = self._truth.events()
        published.events = {one: events[one] for one in events.keys() - self._counted}
        return published

    def _read(self, host: Host) -> None:
        cursor = self._cursors.get(host.name)
        after = f"--after-cursor='{cursor}'" if cursor else ""
        text = host.run(f"journalctl --no-pager -q -o cat -u 'ha-monitor@*' --show-cursor {after}", timeout=60).stdout
        for line in text.splitlines():
            if line.startswith("{"):
                decoded = json.loads(line)
                if is_event(decoded):
                    self.lines.append(decoded)
            elif line.startswith("-- cursor: "):
                self._cursors[host.name] = line.removeprefix("-- cursor: ")

    def shares(self, since: float) -> Counter[tuple[str, str]]:
        """Lines by host and instance since a time."""
        self.read()
        return Counter((line["host"], line["instance"]) for line in self.lines if _seconds(line["timestamp"]) >= since)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
