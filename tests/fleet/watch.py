"""Balances what the broker was given against what the hosts' journals say, for each thing that is done to the fleet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise

from tests.fleet.load import Load, Truth
from tests.support.hosts import Host
from tests.support.ledger import Account, Line, Published, assert_guarantee, balance, is_event
from tests.support.process import wait_until

SETTLE_TIMEOUT = 120
"""Seconds. What a host held when it was cut off is announced by others after three heartbeats and a lease, 37 s."""


class Row:
    """One row of the table at the end; complete when its `with` has ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.0
        self.account: Account | None = None
        self.lines: list[Line] = []
        """All lines of that time, the monitor's own too."""
        self.published = Published()
        self.gap = 0.0
        """Seconds, the longest between two lines about events, of whichever host."""
        self.note = ""

    def assert_guarantee(self, *, may_double: bool = False) -> None:
        """Nothing lost, renamed or without its name; nothing doubled unless a host died or was cut off."""
        assert self.account is not None, f"{self.name}: not counted"
        assert_guarantee(self.account, may_double=may_double)

    def __str__(self) -> str:
        counts = self.account
        if counts is None:
            return f"{self.name:<48} not counted"
        return (
            f"{self.name:<48} {self.seconds:>6.0f} s {counts.published:>7} {counts.lost:>5} {counts.doubled:>8}"
            f" {counts.nameless:>9} {self.gap:>8.2f} s  {self.note}"
        )


HEADER = (
    f"{'what was done':<48} {'took':>8} {'events':>7} {'lost':>5} {'doubled':>8} {'nameless':>9} {'longest gap':>10}"
)


class Watch:
    """Reads the journals of some hosts, as far as they are switched on."""

    def __init__(self, hosts: Sequence[Host], load: Load, truth: Truth) -> None:
        self.rows: list[Row] = []
        self._lines: list[Line] = []
        """All lines that were not counted yet."""
        self._hosts = list(hosts)
        self._load, self._truth = load, truth
        self._cursors: dict[str, str] = {}
        self._counted: set[str] = set()

    @contextmanager
    def over(self, name: str) -> Iterator[Row]:
        """Watch what is done within; at its end all events that no row has counted yet are. An error counts nothing."""
        row = Row(name)
        began = time.time()
        yield row
        ended = time.time()
        row.seconds = ended - began
        self._load.pause()
        try:
            self._count(row, began, ended)
        finally:
            self._load.resume()
        self.rows.append(row)

    def wait_for_runs(self, count: int) -> None:
        """Wait until so many tasks have succeeded from now on: a worker that was cut off is back then, too."""
        began = time.time()

        def runs() -> int:
            events = self._truth.events().values()
            return sum(event["type"] == "task-succeeded" and event["timestamp"] > began for event in events)

        wait_until(lambda: runs() >= count, 120, f"{count} runs", interval=0.25)

    def _count(self, row: Row, began: float, ended: float) -> None:
        row.published = published = self._settled()
        with suppress(TimeoutError):  # the row says how many are missing

            def announced() -> bool:
                self._read()
                return published.missing(self._lines) == 0

            wait_until(announced, SETTLE_TIMEOUT, "every event in a journal", interval=0.5)
        # What was announced again of an earlier row is doubled there. What nobody has published yet, as far as
        # is known, is the next row's.
        known = self._counted | published.events.keys()
        early: list[Line] = []
        for line in self._lines:
            (row.lines if not is_event(line) or line["event_id"] in known else early).append(line)
        self._lines = early
        row.account = balance(published, [line for line in row.lines if line.get("event_id") in published.events])
        times = sorted(t for line in row.lines if is_event(line) and began <= (t := _seconds(line)) <= ended)
        row.gap = max((later - earlier for earlier, later in pairwise([began, *times, ended])), default=ended - began)
        self._counted |= published.events.keys()

    def _settled(self) -> Published:
        """The events that were not counted yet, when no more come."""
        sizes: list[int] = []

        def quiet() -> bool:
            sizes.append(len(self._truth.events()))
            return len(sizes) > 5 and sizes[-1] == sizes[-6]

        wait_until(quiet, 120, "the end of all tasks", interval=0.25)
        published = Published()
        events = self._truth.events()
        for one in events.keys() - self._counted:
            published.add_event(events[one])
        return published

    def _read(self) -> None:
        """Take the new lines of all hosts that run; not over their network, which may be cut."""
        for host in self._hosts:
            if not host.running:
                continue
            cursor = self._cursors.get(host.name)
            after = f"--after-cursor='{cursor}'" if cursor else ""
            text = host.console(f"journalctl --no-pager -q -o cat -t ha-monitor --show-cursor {after}").stdout
            for line in text.splitlines():
                if line.startswith("{"):
                    self._lines.append(json.loads(line))
                elif line.startswith("-- cursor: "):
                    self._cursors[host.name] = line.removeprefix("-- cursor: ")


def _seconds(line: Line) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
