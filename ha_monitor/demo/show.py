"""What the demo prints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

from ha_monitor.demo.summary import Summary
from ha_monitor.text.terminal import Painted, Terminal
from ha_monitor.text.visible import columns, padded, shortened, visible

_LEVELS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
_INSTANCES = ("36", "35", "94", "93", "96", "95")
_ENVELOPE = frozenset({"timestamp", "level", "event", "node_id", "instance", "host", "pid"})
_DULL = frozenset({"event_id", "event_time", "sw_sys", "sw_ident", "sw_ver", "loadavg", "freq", "worker_pid"})
_BAR = 20
_WIDTH = 78


class Screen:
    """Writes lines for people."""

    def __init__(self, output: Terminal, *, cut: bool) -> None:
        """:param cut: whether to cut lines to the width of the terminal."""
        self._output = output
        self._cut = cut

    def line(self, fields: Mapping[str, Any]) -> None:
        """One line of a monitor: time, instance, event, task."""
        event = padded(self._output.shown(str(fields.get("event", ""))), 15)
        time, instance = str(fields.get("timestamp", ""))[11:19], self._instance(str(fields.get("instance", "?")))
        room = None
        if self._cut:
            before = columns(f"{time} {instance.text} {event} ")
            room = max(20, shutil.get_terminal_size().columns - before)
        painted = Painted(event, _LEVELS.get(str(fields.get("level")), "0"))
        self._output.row(f"{time} ", instance, " ", painted, " ", shortened(self._output.shown(about(fields)), room))

    def note(self, text: str) -> None:
        """Something that the demo itself did."""
        self._output.row(Painted(f"── {text} ".ljust(_WIDTH, "─"), "1"))

    def plain(self, text: str) -> None:
        """Output of another program, indented, so that it does not look like a line of the demo."""
        self._output.rows(f"    {row}" for row in text.split("\n"))

    def summary(self, summary: Summary) -> None:
        """The result, at most 80 columns wide."""
        self.note("what the lines of all instances add up to")
        ended = ", ".join(f"{count} {end.removeprefix('task-')}" for end, count in summary.outcomes.items())
        self._row("tasks run", summary.run, ended)
        self._row("announced with its end", summary.announced, good=summary.announced == summary.run)
        self._row("lost", summary.lost, good=summary.lost == 0)
        if summary.wrong:
            self._row("announced with a wrong end", summary.wrong, good=False)
        self._row("announced twice", summary.twice, _marked(summary), good=summary.twice == 0)
        self._row("without a name", summary.nameless, good=summary.nameless == 0)
        if summary.unfinished:
            self._row("sent, without a result", summary.unfinished, good=False)
        told = "each event came to one of them" if summary.dealt_out else "Redis gives each event to all"
        self._row("seen by several instances", summary.split, told)
        self._shares(summary)
        self._output.row()
        verdict = "nothing lost, nothing twice, every task with its name" if summary.good else "the guarantee is broken"
        self._output.row(Painted(f"  {verdict}", "1;32" if summary.good else "1;31"))

    def _row(self, name: str, number: int, remark: str = "", *, good: bool | None = None) -> None:
        mark: list[str | Painted] = (
            [] if good is None else [Painted("ok", "32") if good else Painted("WRONG", "1;31"), " "]
        )
        self._output.row(f"  {name:<27}{number:>6}  ", *mark, remark)

    def _shares(self, summary: Summary) -> None:
        self._output.row()
        self._output.row(Painted(f"  {'lines of':<27}{'in all':>6}  {'share':>5}  {'while all ran':>13}", "2"))
        total, early_total = sum(summary.shares.values()) or 1, sum(summary.early_shares.values()) or 1
        longest = max(summary.early_shares.values()) or 1
        for instance, count in summary.shares.items():
            early = summary.early_shares[instance]
            killed = " (killed)" if instance == summary.killed else ""
            name = self._instance(instance)
            numbers = f"{killed:<{27 - len(name.text)}}{count:>6}  {count / total:>5.0%}  {early / early_total:>13.0%} "
            bar = Painted("█" * round(_BAR * early / longest), name.color)
            self._output.row("  ", name, numbers, bar)
        if summary.even is not None:
            if summary.starved:
                verdict = Painted("ONE GOT NOTHING", "1;31")
            else:
                verdict = Painted("even", "32") if summary.even else Painted("uneven", "33")
            self._output.row(f"  {'':<42}{'shares':>13} ", verdict)

    def _instance(self, name: str) -> Painted:
        return Painted(self._output.shown(f"ha-monitor@{name}"), self._color(name))

    def _color(self, name: str) -> str:
        return _INSTANCES[(int(name) - 1) % len(_INSTANCES)] if name.isdecimal() else "0"


def about(fields: Mapping[str, Any]) -> str:
    """The content of a line, without its time and instance."""
    if "task_id" not in fields:
        shown = {key: value for key, value in fields.items() if key not in _ENVELOPE | _DULL}
        return " ".join(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in shown.items()
        )
    parts = [padded(visible(str(fields.get("task_name") or "?")), 17), str(fields["task_id"])[:8]]
    if fields.get("exception"):
        parts.append(_cause(str(fields["exception"])))
    elif isinstance(fields.get("runtime"), float):
        parts.append(f"{fields['runtime'] * 1000:.0f} ms")
    if fields.get("recovered"):
        parts.append("recovered")
    return " ".join(parts)


def _cause(exception: str) -> str:
    # A retry's exception is "Retry(Retry(...), ConnectionError('…'), 0.5)".
    inner = exception.removeprefix("Retry(Retry(...), ")
    return inner if inner == exception else inner.rpartition(", ")[0]


def _marked(summary: Summary) -> str:
    if not summary.marked:
        return ""
    return f"{summary.marked} marked: killed while writing"
