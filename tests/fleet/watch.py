"""Balances what the broker was given against what the hosts' journals say, for each thing that is done to the fleet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise

from ha_monitor.outputs.line import iso_time
from tests.fleet.load import Load, Truth
from tests.support.hosts import Host
from tests.support.ledger import Account, Line, Published, assert_guarantee, balance_after, is_event
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
        self._counted = Published()

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
        began = iso_time(time.time())

        def runs() -> int:
            counts = self._truth.published().counts
            return sum(
                count for key, count in counts.items() if key.type == "task-succeeded" and (key.time or "") > began
            )

        wait_until(lambda: runs() >= count, 120, f"{count} runs", interval=0.25)

    def _count(self, row: Row, began: float, ended: float) -> None:
        row.published = published = self._settled()
        with suppress(TimeoutError):  # the row says how many are missing

            def announced() -> bool:
                self._read()
                return published.are_in(self._lines)

            wait_until(announced, SETTLE_TIMEOUT, "every event in a journal", interval=0.5)
        # What nobody has published yet, as far as is known, is the next row's.
        early: list[Line] = []
        for line in self._lines:
            known = not is_event(line) or published.knows(line) or self._counted.knows(line)
            (row.lines if known else early).append(line)
        self._lines = early
        row.account = balance_after(self._counted, published, row.lines)
        self._counted.update(published)
        times = sorted(t for line in row.lines if is_event(line) and began <= (t := _seconds(line)) <= ended)
        row.gap = max((later - earlier for earlier, later in pairwise([began, *times, ended])), default=ended - began)

    def _settled(self) -> Published:
        """The events that were not counted yet, when no more come."""
        sizes: list[int] = []

        def quiet() -> bool:
            sizes.append(len(self._truth.published()))
            return len(sizes) > 5 and sizes[-1] == sizes[-6]

        wait_until(quiet, 120, "the end of all tasks", interval=0.25)
        return self._truth.published().without(self._counted)

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
