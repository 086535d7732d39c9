"""How commands that ask the store take their flags and show their answers: one way for all of them.

The answer goes to standard output, remarks about it to standard error. A terminal gets tables that fit its width; a
pipe gets full texts without colours.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ha_monitor.cli.flags import a_limit, an_interval
from ha_monitor.cli.sentence import changes_text, gaps_text
from ha_monitor.errors import StoreUnavailable
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Cell, Column, laid_out, text_of, unique_beginning
from ha_monitor.text.terminal import Painted, Terminal, standard_error, standard_output
from ha_monitor.text.times import local, relative, short_duration
from ha_monitor.text.visible import columns, shortened

if TYPE_CHECKING:
    from msgspec import Struct

    from ha_monitor.answers.result import Result
    from ha_monitor.config.load import Loaded
    from ha_monitor.incidents.changes import Change
    from ha_monitor.store.queries import Gap
    from ha_monitor.store.reader import StoreReader

FORMATS = ("table", "wide", "json", "jsonl", "tsv", "ids")
MIN_ID_LENGTH = 8
"""Minimum number of characters of an id that a table shows."""
COLORS = {"good": "32", "bad": "31", "warn": "33", "busy": "36"}
_STATE_COLORS = {
    **{"FAILURE": "bad", "REJECTED": "bad", "REVOKED": "warn", "RETRY": "warn", "STARTED": "busy", "SUCCESS": "good"},
    **{"online": "good", "late": "warn", "lost": "bad"},
    **{"missed": "bad", "failed": "bad", "doubled": "warn", "overran": "warn", "skipped": "warn", "on time": "good"},
}
MAX_TYPED = 80
"""Columns of typed text that a message repeats."""

Item = TypeVar("Item")


class Style(NamedTuple):
    """How times and states are shown."""

    now: float
    """Seconds since the epoch, by the store's clock."""
    times: str = "relative"
    """relative, local or utc."""
    seconds: bool = False
    """Whether durations are in seconds, for programs."""

    def time(self, seconds: float | None) -> str:
        """A time; empty if there is none."""
        if not seconds:
            return ""
        if self.times == "relative":
            return relative(seconds, self.now)
        if self.times == "local":
            return local(seconds)
        from ha_monitor.outputs.line import iso_time

        return iso_time(seconds)

    def duration(self, seconds: float | None) -> str:
        """A duration; empty if there is none."""
        if seconds is None:
            return ""
        return f"{seconds:.6f}" if self.seconds else short_duration(seconds)

    def state(self, state: str, more: str = "") -> Cell:
        """A state in its colour."""
        kind = _STATE_COLORS.get(state)
        text = f"{state}{more}"
        return text if kind is None else Painted(text, COLORS[kind])


class ItemColumn(NamedTuple):
    """A column, and what it shows of an item."""

    column: Column
    cell: Callable[[Any, Style], Cell]
    wide: bool = False
    """Whether it is shown only in wide tables and for programs."""
    is_id: bool = False
    """Whether a unique prefix of it is enough."""


class DetailView(NamedTuple):
    """How items are shown to people if they do not fit into a row of a table."""

    write: Callable[[Any, Style, Terminal, int | None], None]
    """Writes one item; the last argument is the width of the terminal in columns, None for no limit."""
    note: str = ""
    """A remark below."""


class Answer(NamedTuple):
    """What is known about a question."""

    nouns: tuple[str, str]
    """Singular and plural: task, tasks."""
    time: float
    """When the question was asked, in seconds since the epoch."""
    items: Sequence[Any]
    columns: Sequence[ItemColumn]
    id_of: Callable[[Any], str]
    document_of: Callable[[Any], Struct]
    searched: str
    gaps: Sequence[Gap] = ()
    more: bool = False
    detail_view: DetailView | None = None
    """Used instead of a table, if a table cannot hold the items."""
    found: str = ""
    """What is listed, in words, if a number and the noun are not enough."""
    changes: Sequence[Change] | None = None
    """As in `Result`."""


def answer_of(
    found: Result,
    nouns: tuple[str, str],
    columns: Sequence[ItemColumn],
    id_of: Callable[[Any], str],
    *,
    detail_view: DetailView | None = None,
    words: str = "",
) -> Answer:
    """An answer with how it is shown to people. :param words: as `Answer.found`."""
    return Answer(
        nouns=nouns,
        time=found.time,
        items=found.items,
        columns=columns,
        id_of=id_of,
        document_of=lambda item: found.item_of(item, found.time),
        searched=found.searched,
        gaps=found.gaps,
        more=found.more,
        detail_view=detail_view,
        found=words,
        changes=found.changes,
    )


def add_flags(
    parser: argparse.ArgumentParser, *, limit: int | None = 20, times: bool = True, formats: Sequence[str] = FORMATS
) -> None:
    """Add the flags that all such commands have.

    :param limit: how many items are listed by default; None for commands without a limit.
    :param times: whether the command takes --since and --until.
    :param formats: the forms of its answer.
    """
    parser.add_argument("-o", "--output", choices=formats, default="table", help="form of the answer (default: table)")
    if limit is not None:
        parser.add_argument(
            "-n",
            "--limit",
            type=a_limit,
            default=limit,
            metavar="N",
            help=f"maximum number of items; 0 for all (default: {limit})",
        )
        parser.add_argument("-r", "--reverse", action="store_true", help="reverse the order")
    if times:
        parser.add_argument("--since", metavar="TIME", help="-1h, 02:00, '2026-11-25 02:00' or ISO 8601")
        parser.add_argument("--until", metavar="TIME", help="the same")
    end = parser.add_mutually_exclusive_group()  # a repeated question has no exit status
    end.add_argument(
        "--watch", nargs="?", type=an_interval, const=2.0, metavar="SECONDS", help="repeat every SECONDS (default: 2)"
    )
    parser.add_argument("--no-legend", action="store_true", help="no headers and no remarks")
    parser.add_argument("--time", choices=("relative", "local", "utc"), help="how times are shown")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="(default: auto)")
    end.add_argument("--fail-if-any", action="store_true", help="exit with status 1 if anything is listed")
    end.add_argument("--fail-if-none", action="store_true", help="exit with status 1 if nothing is listed")


@contextmanager
def store_of(options: argparse.Namespace) -> Iterator[tuple[Loaded, StoreReader]]:
    """The configuration, and a connection to its store.

    :raises StoreUnavailable: with a text that says where the address comes from.
    """
    from ha_monitor.config.load import read
    from ha_monitor.on_demand import import_redis

    import_redis()
    from ha_monitor.store.reader import StoreReader

    loaded = read(options.config, os.environ)
    reader = StoreReader(loaded.config.store, loaded.config.node_id)
    try:
        with loaded.naming_sources():
            reader.connect()
            yield loaded, reader
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{error} ({loaded.origin_of('store.url')})") from None
    finally:
        reader.close()


def ask_and_show(
    options: argparse.Namespace,
    ask: Callable[[Loaded, StoreReader], Answer],
    *,
    named: str | None = None,
    below: Callable[[Answer], None] = lambda _: None,
) -> ExitStatus:
    """Ask, and show the answer; with --watch repeatedly, until somebody interrupts it.

    :param named: the name that was asked for. If there is no item, that is reported, and the status is `FAILURE`.
    :param below: writes what else is known, below the answer.
    """
    with store_of(options) as (loaded, reader):
        answer = noting_no_instance(ask(loaded, reader), loaded, reader)
    if options.watch is None:
        show(answer, options)
        below(answer)
        return ExitStatus.FAILURE if is_unknown(named, answer.items, answer.nouns) else _status(answer, options)
    trouble = ""
    while True:
        output = output_of(options)
        if sys.stdout.isatty():
            output.clear()
        show(answer, options, rows=shutil.get_terminal_size().lines - 3 if sys.stdout.isatty() else None)
        is_unknown(named, answer.items, answer.nouns)
        if trouble:
            standard_error().row(trouble)
        else:
            with suppress(StoreUnavailable):  # the next look reports that it is away
                below(answer)
        time.sleep(options.watch)
        if options.output in ("table", "wide") and not sys.stdout.isatty():
            output.row("")
        try:
            with store_of(options) as (loaded, reader):
                answer, trouble = noting_no_instance(ask(loaded, reader), loaded, reader), ""
        except StoreUnavailable as error:
            trouble = f"ha-monitor: {error}; this is what was known at {local(answer.time)[:19]}"


def is_unknown(named: str | None, found: Sequence[Any], nouns: tuple[str, str]) -> bool:
    """Whether a name was asked for that nothing has. If so, that is reported."""
    if named is None or found:
        return False
    one, several = nouns
    said = f"no {one} has this name; ha-monitor {several} lists them"
    standard_error().row(f"ha-monitor: {as_typed(named)}: {said}")
    return True


def no_instance_text(node_id: str) -> str:
    """Why nothing is known if no instance has registered: with a wrong node_id, all would seem well."""
    return f"no instance has written to this store as node_id {as_typed(node_id)}: correct node_id or store.url"


def noting_no_instance(answer: Answer, loaded: Loaded, reader: StoreReader) -> Answer:
    """The answer. It says so if no instance has ever registered."""
    from ha_monitor.store.queries import Gap

    if answer.items or reader.is_used():
        return answer
    return answer._replace(gaps=[Gap(f"everything, since {no_instance_text(loaded.config.node_id)}", 0, 0)])


def _status(answer: Answer, options: argparse.Namespace) -> ExitStatus:
    refused = options.fail_if_any if answer.items else options.fail_if_none
    return ExitStatus.FAILURE if refused else ExitStatus.OK


def output_of(options: argparse.Namespace) -> Terminal:
    """Standard output, with colours if the user wants them."""
    wanted = options.color == "always"
    if options.color == "auto":
        wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return standard_output(colors=wanted)


def show(answer: Answer, options: argparse.Namespace, rows: int | None = None) -> None:
    """Write an answer.

    :param rows: maximum number of rows of a table.
    """
    output = output_of(options)
    if options.output == "json":
        output.json(_encoded(document(answer)))
    elif options.output == "jsonl":
        for item in answer.items:
            output.json(_encoded(answer.document_of(item)))
    elif options.output == "ids":
        output.rows(answer.id_of(item) for item in answer.items)
    elif options.output == "tsv":
        _show_values(answer, options, output)
    else:
        _show_table(answer, options, output, rows)
    nothing_found = answer.detail_view is not None and not answer.items  # the reason was already reported
    if not options.no_legend and options.output != "json" and not nothing_found:
        standard_error().row(sentence_about(answer))


def terminal_width() -> int | None:
    """The width of the terminal in columns; None if standard output is not one, so that nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write_properties(known: Mapping[str, str | None], output: Terminal, width: int | None) -> None:
    """Write a row for each known property, cut to the terminal."""
    for name, text in known.items():
        if text:
            cut = shortened(output.shown(text), None if width is None else max(20, width - 13), output.shown("…"))
            output.row(f"  {name:<9}  {cut}")


def as_typed(text: str) -> str:
    """Text that a person typed, prepared for an error message on standard error."""
    error = standard_error()
    return shortened(error.shown(text), MAX_TYPED, error.shown("…"))


def first_of(found: Sequence[Item], options: argparse.Namespace) -> tuple[Sequence[Item], bool]:
    """The items to show according to --reverse and --limit, and whether there are more."""
    ordered = found[::-1] if options.reverse else found
    return (ordered[: options.limit], len(found) > options.limit) if options.limit else (ordered, False)


def document(answer: Answer) -> Struct:
    """The answer as one document."""
    from ha_monitor.answers.result import document as made

    items = [answer.document_of(item) for item in answer.items]
    return made(answer.time, items, answer.searched, answer.gaps, more=answer.more, changes=answer.changes)


def _encoded(document: Struct) -> bytes:
    import msgspec

    return msgspec.json.encode(document)


def _show_values(answer: Answer, options: argparse.Namespace, output: Terminal) -> None:
    style = Style(answer.time, options.time or "utc", seconds=True)
    if not options.no_legend:
        output.cells([col.column.header.lower() for col in answer.columns])
    for item in answer.items:
        output.cells([text_of(col.cell(item, style)) for col in answer.columns])


def _show_table(answer: Answer, options: argparse.Namespace, output: Terminal, most: int | None) -> None:
    if not answer.items:
        return
    width = terminal_width()
    if answer.detail_view is not None:
        for number, item in enumerate(answer.items):
            if number:
                output.row("")
            answer.detail_view.write(item, Style(answer.time, options.time or "local"), output, width)
        return
    style = Style(answer.time, options.time or "relative")
    used = [col for col in answer.columns if not col.wide or options.output == "wide"]
    items = answer.items[:most]
    rows = [[col.cell(item, style) for col in used] for item in items]
    header = [
        col.column._replace(
            least=columns(output.shown("…")) + unique_beginning([text_of(row[number]) for row in rows], MIN_ID_LENGTH),
            grows_last=True,
        )
        if col.is_id
        else col.column
        for number, col in enumerate(used)
    ]
    for row in laid_out(header, rows, output.shown, width=width, legend=not options.no_legend):
        output.row(*row)


def sentence_about(answer: Answer) -> str:
    """What was found, where it was searched, and what may be missing."""
    one, several = answer.nouns
    count = len(answer.items)
    found = answer.found or f"{count or 'no'} {one if count == 1 else several}"
    if answer.more:
        found += ", and there are more (-n 0: all)"
    lacks = gaps_text(answer.gaps, Style(answer.time, "local").time)
    changes = changes_text(answer.changes or (), answer.time)
    note = f" {answer.detail_view.note}" if answer.detail_view is not None and answer.detail_view.note else ""
    return f"{found}. Searched: {answer.searched}. {lacks}{changes}{note}"
