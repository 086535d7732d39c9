"""`ha-monitor silence`: suppress the messages about some incidents for a while."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import Answer, ItemColumn, add_flags, as_typed, ask_and_show, first_of, store_of
from ha_monitor.cli.flags import OF_LISTS, refuse
from ha_monitor.errors import UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.table import Column
from ha_monitor.text.terminal import standard_error
from ha_monitor.text.times import local, parse_duration
from ha_monitor.text.visible import written_out_bytes

if TYPE_CHECKING:
    from msgspec import Struct

    from ha_monitor.store.incidents import Silence
    from ha_monitor.store.reader import StoreReader

EXAMPLES = """\
examples:
  ha-monitor silence worker-lost 2h --why 'hosts are updated'
  ha-monitor silence queue-late=mail 30m
  ha-monitor silence 'task-stuck=reports.*' 1d
  ha-monitor silence --list
  ha-monitor silence --end 3f2a9c11
"""
MAX_DURATION = 30 * 86_400.0
MAX_TEXT = 200
"""Characters of a key, and of a reason."""


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "silence",
        parents=[common],
        help="suppress messages about some incidents for a while; list or end silences",
        description="Suppresses messages about incidents of a kind, or of those with a key in which * stands for any "
        "text, for so long. problems lists them all the same, and says so. A silence ends by itself; the same again "
        "replaces it. Exit status 1 if there is none to end, or there are too many.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", metavar="KIND[=KEY]", help="kind of incidents, such as worker-lost")
    parser.add_argument("duration", nargs="?", metavar="DURATION", help="for how long, as in 90m, 2h or 1d")
    parser.add_argument("--why", default="", metavar="TEXT", help="what others should know")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--list", action="store_true", help="list the silences, the next to end first")
    which.add_argument("--end", metavar="ID", help="end the silence with this id, or beginning of an id, now")
    add_flags(parser, limit=0, times=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Add, list or end silences.

    :raises UsageError: if it is not said what to silence, or for how long, or if arguments do not go together.
    """
    if options.end is not None:
        refuse(options, "why", *OF_LISTS, beside="--end")
        if options.what is not None:
            raise UsageError(f"silence: --end takes an id alone, without {as_typed(options.what)}")
        return _end(options)
    if options.list or options.what is None:
        if options.what is not None:
            raise UsageError(f"silence: either --list, or {as_typed(options.what)} and for how long")
        refuse(options, "why", beside="a list")
        return ask_and_show(options, lambda _, reader: _answer(options, reader))
    refuse(options, *OF_LISTS, beside="a kind of incidents")
    return _add(options)


def _add(options: argparse.Namespace) -> ExitStatus:
    from hashlib import blake2b

    from ha_monitor.incidents.catalogue import KINDS
    from ha_monitor.store.incidents import MAX_SILENCES, Silence

    kind, names_key, key = options.what.partition("=")
    if kind not in KINDS:
        raise UsageError(f"silence: {as_typed(kind)} is no kind of incident; known are {', '.join(sorted(KINDS))}")
    if names_key and not key.strip():
        # A script with an unset variable, for example, would silence all incidents of the kind.
        raise UsageError(f"silence: {kind}= names no key; {kind} alone is all of its incidents")
    if options.duration is None:
        raise UsageError("silence: say for how long, as in 90m, 2h or 1d")
    try:
        seconds = parse_duration(options.duration)
    except ValueError as error:
        raise UsageError(f"silence: {as_typed(options.duration)}: {error}") from None
    if not 0 < seconds <= MAX_DURATION:
        raise UsageError("silence: expected a duration above 0 and up to 30d")
    key, why = (written_out_bytes(text) for text in (key, options.why))
    if len(key) > MAX_TEXT or len(why) > MAX_TEXT:
        raise UsageError(f"silence: expected at most {MAX_TEXT} characters; in a key, * stands for any text")
    said = standard_error()
    with store_of(options) as (_, reader):
        now = reader.queries.now()
        silence_id = blake2b(f"{kind}\0{key}".encode(), digest_size=4).hexdigest()
        if not reader.incidents.silence(Silence(silence_id, kind, key, now + seconds, now, why)):
            said.row(f"ha-monitor: there are {MAX_SILENCES} silences already; ha-monitor silence --list shows them")
            return ExitStatus.FAILURE
    until = local(now + seconds)[:19]
    said.row(f"{as_typed(options.what)} is silenced until {until}; ha-monitor silence --end {silence_id} ends that")
    return ExitStatus.OK


def _end(options: argparse.Namespace) -> ExitStatus:
    with store_of(options) as (_, reader):
        ids = [one.id for one in reader.incidents.silences() if options.end and one.id.startswith(options.end)]
        if len(ids) == 1 and reader.incidents.end(ids[0]):
            standard_error().row(f"{ids[0]} has ended")
            return ExitStatus.OK
    said = f"{len(ids)} silences begin so" if len(ids) > 1 else "no silence has this id"
    standard_error().row(f"ha-monitor: {as_typed(options.end)}: {said}; ha-monitor silence --list shows them")
    return ExitStatus.FAILURE


def _answer(options: argparse.Namespace, reader: StoreReader) -> Answer:
    items, more = first_of(reader.incidents.silences(), options)
    return Answer(
        nouns=("silence", "silences"),
        time=reader.queries.now(),
        items=items,
        columns=COLUMNS,
        id_of=lambda one: str(one.id),
        document_of=_document,
        searched="all active silences",
        more=more,
    )


def _document(one: Silence) -> Struct:
    from ha_monitor.query.problem_items import silence_item

    return silence_item(one)


COLUMNS = (
    ItemColumn(Column("ID", 0), lambda one, _style: one.id),
    ItemColumn(Column("KIND", 0), lambda one, _style: one.kind),
    ItemColumn(Column("KEY", 1, 12), lambda one, _style: one.key),
    ItemColumn(Column("UNTIL", 0), lambda one, style: style.time(one.until)),
    ItemColumn(Column("MADE", 3), lambda one, style: style.time(one.made)),
    ItemColumn(Column("WHY", 2, 12), lambda one, _style: one.why),
)
