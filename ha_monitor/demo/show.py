"""What the demo prints."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from ha_monitor.demo.summary import Summary

_LEVELS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
_INSTANCES = ("36", "35", "94", "93", "96", "95")
_ENVELOPE = frozenset({"timestamp", "level", "event", "node_id", "instance", "host", "pid"})
_DULL = frozenset({"event_id", "event_time", "sw_sys", "sw_ident", "sw_ver", "loadavg", "freq", "worker_pid"})
_BAR = 20
_WIDTH = 78


class Screen:
    """Writes lines for people: with colours, and cut to the width, only on a terminal."""

    def __init__(self, *, colors: bool, terminal: bool) -> None:
        self._colors = colors
        self._terminal = terminal

    def line(self, fields: Mapping[str, Any]) -> None:
        """One line of a monitor: time, which instance, what, which task."""
        event = f"{fields.get('event', ''):<15}"
        time, instance = str(fields.get("timestamp", ""))[11:19], str(fields.get("instance", "?"))
        room = None
        if self._terminal:
            before = len(time) + len(f" ha-monitor@{instance} ") + len(event) + 1
            room = max(20, shutil.get_terminal_size().columns - before)
        painted = self._paint(event, _LEVELS.get(str(fields.get("level")), "0"))
        self._write(f"{time} {self._instance(instance)} {painted} {shortened(about(fields), room)}".rstrip())

    def note(self, text: str) -> None:
        """Something that the demo itself did."""
        self._write(self._paint(f"── {text} ".ljust(_WIDTH, "─"), "1"))

    def plain(self, text: str) -> None:
        """Something that another program said."""
        self._write(text)

    def summary(self, summary: Summary) -> None:
        """The result, at most 80 columns wide."""
        self.note("what the lines of all instances add up to")
        ended = ", ".join(f"{count} {end.removeprefix('task-')}" for end, count in summary.outcomes.items())
        self._row("tasks run", summary.run, ended)
        self._row("announced, each by its end", summary.announced, good=summary.announced == summary.run)
        self._row("lost", summary.lost, good=summary.lost == 0)
        if summary.wrong:
            self._row("announced as another end", summary.wrong, good=False)
        self._row("announced twice", summary.twice, _marked(summary), good=summary.twice == 0)
        self._row("without a name", summary.nameless, good=summary.nameless == 0)
        if summary.unfinished:
            self._row("sent, without a result", summary.unfinished, good=False)
        told = "each event came to one of them" if summary.dealt_out else "Redis gives each event to all"
        self._row("seen by several instances", summary.split, told)
        self._shares(summary)
        self._write("")
        verdict = "nothing lost, nothing twice, every task by its name" if summary.good else "the promise was not kept"
        self._write(self._paint(f"  {verdict}", "1;32" if summary.good else "1;31"))

    def _row(self, name: str, number: int, remark: str = "", *, good: bool | None = None) -> None:
        mark = "" if good is None else self._paint("ok", "32") if good else self._paint("WRONG", "1;31")
        self._write(f"  {name:<27}{number:>6}  {' '.join(filter(None, (mark, remark)))}".rstrip())

    def _shares(self, summary: Summary) -> None:
        self._write("")
        self._write(self._paint(f"  {'lines of':<27}{'in all':>6}  {'share':>5}  {'while all ran':>13}", "2"))
        total, early_total = sum(summary.shares.values()) or 1, sum(summary.early_shares.values()) or 1
        longest = max(summary.early_shares.values()) or 1
        for instance, count in summary.shares.items():
            early = summary.early_shares[instance]
            killed = " (killed)" if instance == summary.killed else ""
            name = self._instance(instance) + f"{killed:<{27 - len(f'ha-monitor@{instance}')}}"
            bar = self._paint("█" * round(_BAR * early / longest), self._color(instance))
            self._write(f"  {name}{count:>6}  {count / total:>5.0%}  {early / early_total:>13.0%} {bar}".rstrip())
        if summary.even is not None:
            if summary.starved:
                verdict = self._paint("ONE GOT NOTHING", "1;31")
            else:
                verdict = self._paint("even", "32") if summary.even else self._paint("uneven", "33")
            self._write(f"  {'':<42}{'shares':>13} {verdict}")

    def _instance(self, name: str) -> str:
        return self._paint(f"ha-monitor@{name}", self._color(name))

    def _color(self, name: str) -> str:
        return _INSTANCES[(int(name) - 1) % len(_INSTANCES)] if name.isdigit() else "0"

    def _paint(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._colors else text

    def _write(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def about(fields: Mapping[str, Any]) -> str:
    """What a line says apart from who says it and when."""
    if "task_id" not in fields:
        shown = {key: value for key, value in fields.items() if key not in _ENVELOPE | _DULL}
        return " ".join(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in shown.items()
        )
    parts = [f"{fields.get('task_name') or '?':<17}", str(fields["task_id"])[:8]]
    if fields.get("exception"):
        parts.append(_cause(str(fields["exception"])))
    elif isinstance(fields.get("runtime"), float):
        parts.append(f"{fields['runtime'] * 1000:.0f} ms")
    if fields.get("recovered"):
        parts.append("recovered")
    return " ".join(parts)


def shortened(text: str, room: int | None) -> str:
    """The text, cut to so many columns if there is a limit."""
    return text if room is None or len(text) <= room else text[: room - 1] + "…"


def _cause(exception: str) -> str:
    # A retry comes as "Retry(Retry(...), ConnectionError('…'), 0.5)".
    inner = exception.removeprefix("Retry(Retry(...), ")
    return inner if inner == exception else inner.rpartition(", ")[0]


def _marked(summary: Summary) -> str:
    if not summary.marked:
        return ""
    return f"{summary.marked} marked: killed in the act"
