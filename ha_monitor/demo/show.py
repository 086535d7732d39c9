"""What the demo prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from ha_monitor.demo.summary import Summary

_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
_INSTANCES = ("36", "35", "34", "33", "32")
BAR = 30


class Screen:
    """Writes lines for people: with colours only where they are wanted."""

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors

    def line(self, fields: Mapping[str, Any]) -> None:
        """One line of a monitor: time, which instance, what, which task."""
        instance = str(fields.get("instance", "?"))
        event = self._paint(f"{fields.get('event', ''):<17}", _COLORS.get(str(fields.get("level")), "0"))
        parts = [str(fields.get("timestamp", ""))[11:23], self.instance(instance), event]
        if "task_id" in fields:
            parts += [f"{fields.get('task_name') or '?':<18}", str(fields["task_id"])[:8]]
            if "runtime" in fields:
                parts.append(f"{fields['runtime'] * 1000:.0f} ms")
            if fields.get("exception"):
                parts.append(str(fields["exception"]))
        else:
            parts.append(_about(fields))
        self._write(" ".join(parts))

    def note(self, text: str) -> None:
        """Something that the demo itself did."""
        self._write(self._paint(f"── {text} ", "1"))

    def instance(self, name: str) -> str:
        """An instance's name in its own colour."""
        color = _INSTANCES[int(name) % len(_INSTANCES)] if name.isdigit() else "0"
        return self._paint(f"ha-monitor@{name}", color)

    def summary(self, summary: Summary, *, killed: str | None) -> None:
        """The result, at most 80 columns wide."""
        self._write("")
        rows = (
            ("tasks run", summary.run, None),
            ("announced", summary.announced, summary.announced == summary.run),
            ("lost", summary.lost, summary.lost == 0),
            ("announced twice", summary.twice, summary.twice == 0),
            ("without a name", summary.nameless, summary.nameless == 0),
            ("told by several instances", summary.split, None),
        )
        for name, number, good in rows:
            mark = "" if good is None else self._paint("ok", "32") if good else self._paint("WRONG", "1;31")
            self._write(f"  {name:<26} {number:>6}  {mark}")
        total = sum(summary.shares.values()) or 1
        for instance, count in summary.shares.items():
            bar = "█" * round(BAR * count / total)
            note = "  killed half-way" if instance == killed else ""
            self._write(f"  lines of {self.instance(instance)} {count:>11}  {count / total:>4.0%} {bar}{note}")
        if summary.uneven:
            self._write(self._paint("  the shares are not even", "1;31"))
        if summary.unfinished:
            self._write(self._paint(f"  {summary.unfinished} tasks sent never ended", "1;31"))
        self._write("")
        verdict = "nothing lost, nothing twice" if summary.good else "the promise was not kept"
        self._write(self._paint(f"  {verdict}", "1;32" if summary.good else "1;31"))

    def _paint(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._colors else text

    def _write(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


_ENVELOPE = frozenset({"timestamp", "level", "event", "node_id", "instance", "host", "pid"})
_DULL = frozenset({"event_id", "event_time", "sw_sys", "sw_ident", "sw_ver", "loadavg", "freq", "worker_pid"})


def _about(fields: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in fields.items() if key not in _ENVELOPE | _DULL}
    return " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in shown.items())
