"""`ha-monitor problems`: what is wrong now, and the command that shows more."""

from __future__ import annotations

import argparse
import textwrap
from functools import partial
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import Answer, DetailView, ItemColumn, Style, add_flags, answer_of, ask_and_show
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column
from ha_monitor.text.terminal import Painted, Terminal
from ha_monitor.text.times import relative

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ha_monitor.config.load import Loaded
    from ha_monitor.store.incidents import Incident
    from ha_monitor.store.reader import StoreReader

EXAMPLES = """\
examples:
  ha-monitor problems                   what is wrong, the worst first
  ha-monitor problems --watch           the same, again and again
  ha-monitor problems --all -o wide     also what was over within the last hour, a row each
  ha-monitor problems || page-somebody  exit status 1 if anything is wrong
"""
MIN_WIDTH = 40
_COLORS = {"page": "31;1", "warn": "33;1"}


UNJUDGED = "not judged at the moment"
"""Used instead of `no problems`."""


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "problems",
        parents=[common],
        help="list what is wrong now, the worst first; exit status 1 if anything is",
        description="Lists the incidents, the worst first: what, since when, what it follows from, who was told of it, "
        "and the command that shows more. Those that have not lasted long enough are marked as pending, and silenced "
        "ones are listed, too. If there are none, it says on what that is based. Exit status 1 if any fires, pending "
        "ones apart.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--all", action="store_true", help="also those that were over within the last hour")
    add_flags(parser, limit=0, times=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """List incidents."""
    any_fires = False

    def ask(loaded: Loaded, reader: StoreReader) -> Answer:
        nonlocal any_fires
        from ha_monitor.answers.problems import count_text, problems

        workers = reader.workers(loaded.config.workers.late_after).entries
        found = problems(reader, workers, options.limit, over=options.all, reverse=options.reverse)
        any_fires = found.any_fires
        by_id = {one.id: one for one in found.known}
        items = found.result.items
        detail_view = DetailView(partial(_write_details, by_id)) if items and options.output != "wide" else None
        return answer_of(
            found.result,
            ("problem", "problems"),
            COLUMNS,
            lambda one: str(one.id),
            detail_view=detail_view,
            words=_found(items, count_text(found.known), is_judged=found.is_judged),
        )

    status = ask_and_show(options, ask)
    return ExitStatus.FAILURE if any_fires else status


def _found(items: Sequence[Incident], wrong: str, *, is_judged: bool) -> str:
    """How much is wrong, and how many resolved incidents are listed. If nobody judges, it never says `no problems`."""
    over = sum(1 for one in items if not one.is_open)
    found = wrong or ("no problems" if is_judged else UNJUDGED)
    return f"{found}, {over} over within the last hour" if over else found


def _write_details(
    all_of_them: Mapping[str, Incident], one: Incident, style: Style, output: Terminal, width: int | None
) -> None:
    """Write an incident: its summary, what is known of it, and the command.

    :param all_of_them: by id, to name the incident that this one follows from.
    """
    shown = output.shown(one.summary)
    lines = [shown] if width is None else textwrap.wrap(shown, max(MIN_WIDTH, width - 1)) or [""]
    color = _COLORS[one.severity.value] if one.phase.value == "firing" and not one.silenced_until else "2"
    for line in lines:
        output.row(Painted(line, color))
    for line in _details(one, all_of_them, style):
        text = output.shown(line)
        for row in [text] if width is None else textwrap.wrap(text, max(MIN_WIDTH, width - 3)):
            output.row(f"  {row}")
    if one.command:
        output.row(f"  {one.command}")


def _details(one: Incident, all_of_them: Mapping[str, Incident], style: Style) -> list[str]:
    from ha_monitor.incidents.catalogue import KINDS
    from ha_monitor.schedules.timetable import exact_duration
    from ha_monitor.store.incidents import BEFORE

    when = f"since {style.time(one.since)[:19]}, {relative(one.since, style.now)}"
    phase = {"firing": one.severity.value, "pending": f"pending, then {one.severity.value}"}.get(
        one.phase.value, f"over {relative(one.changed, style.now)}"
    )
    lines = [f"{one.kind}, {phase}, {when}"]
    if one.is_open and one.quiet_since is not None:
        kind = KINDS.get(one.kind)
        after = f", over after {exact_duration(kind.quiet)} without" if kind is not None else ""
        lines.append(f"last seen {style.time(one.quiet_since)[:19]}{after}")
    if before := one.facts.get(BEFORE):
        lines.append(f"before it: {before}")
    if one.cause is not None:
        cause = all_of_them.get(one.cause)
        lines.append(f"follows from {one.cause if cause is None else f'{cause.kind} {cause.key}'}")
    if one.silenced_until:
        lines.append(f"silenced until {style.time(one.silenced_until)[:19]}")
    if one.told:
        lines.append(f"told: {', '.join(_notified(name, told.at, style) for name, told in one.told.items())}")
    return lines


def _notified(channel: str, at: float, style: Style) -> str:
    return f"{channel} {relative(at, style.now)}"


def _phase(one: Incident, _style: Style) -> Cell:
    if one.silenced_until:
        return f"{one.phase.value}, silenced"
    return Painted(one.phase.value, _COLORS[one.severity.value]) if one.phase.value == "firing" else one.phase.value


COLUMNS = (
    ItemColumn(Column("PHASE", 1), _phase),
    ItemColumn(Column("SEVERITY", 4), lambda one, _style: one.severity.value),
    ItemColumn(Column("SINCE", 2), lambda one, style: style.time(one.since)),
    ItemColumn(Column("KIND", 3), lambda one, _style: one.kind),
    ItemColumn(Column("KEY", 3, 12), lambda one, _style: one.key),
    ItemColumn(Column("SIZE", 6, right=True), lambda one, _style: str(one.size)),
    ItemColumn(Column("SUMMARY", 0, 30), lambda one, _style: one.summary),
    ItemColumn(Column("CAUSE", 7), lambda one, _style: one.cause or ""),
    ItemColumn(Column("SILENCED", 8), lambda one, style: style.time(one.silenced_until)),
    ItemColumn(
        Column("TOLD", 8, 8),
        lambda one, style: ", ".join(_notified(name, at.at, style) for name, at in one.told.items()),
    ),
    ItemColumn(Column("COMMAND", 9, 12), lambda one, _style: one.command),
    ItemColumn(Column("ID", 9), lambda one, _style: one.id),
)
