"""What documentation and schema say of the types of events, from the catalogue: `make documents` writes it.

Each part is put in place of the one that is there, so its surroundings are free.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.catalogue import FIELDS, OWN_EVENTS, TASK_EVENTS, WORKER_EVENTS
from ha_monitor.events.types import CELERY_FIELDS, LEVELS, RUNTIME_TYPES, TASK_CODES
from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.text.times import duration
from tests.support import metrics_table

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 120


def listed(names: Iterable[str]) -> str:
    """As people list them: a, b and c."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def replaced(text: str, pattern: str, part: str) -> str:
    """The text with the only part of it that fits the pattern written anew."""
    text, times = re.subn(pattern, lambda _: part, text, flags=re.DOTALL)
    if times != 1:
        raise ValueError(f"{times} places instead of one: {pattern}")
    return text


def with_levels(log: str) -> str:
    by_level = {level: [f"`{name}`" for name in LEVELS if LEVELS[name] is level] for level in reversed(LogLevel)}
    by_level[LogLevel.INFO].append("custom events")
    sentence = "; ".join(f"{listed(names)} are {level.value}" for level, names in by_level.items())
    paragraph = f"Levels: {sentence}, and not written by default."
    wrapped = textwrap.fill(paragraph, WIDTH, break_on_hyphens=False, break_long_words=False)
    return replaced(log, r"Levels: `.*?written\s+by\s+default\.\s", f"{wrapped}\n")


def with_ends(states: str) -> str:
    rows = ["| rank | events | state |", "|---|---|---|"]
    ends = [(row.end, row.type) for row in TASK_EVENTS if row.end is not None]
    for end, name in sorted(ends, key=lambda pair: (pair[0].rank, pair[0].tie), reverse=True):
        rows.append(f"| {end.rank} | `{name}` | {end.state} |")
    return replaced(states, r"\| rank \| events \| state \|\n.*?\n(?=\n)", "\n".join(rows) + "\n")


def with_metrics(monitoring: str) -> str:
    return replaced(monitoring, r"\| metric \| kind \|.*?\n(?=\n)", metrics_table.table())


def types_with(field: str) -> list[str]:
    """The types whose lines may have a field."""
    found = [name for name, fields in CELERY_FIELDS.items() if field in fields]
    if found == [row.type for row in WORKER_EVENTS]:
        return ["worker events"]
    if field == "runtime":
        found += sorted(RUNTIME_TYPES - set(found))
    return found + [row.name for row in OWN_EVENTS if field in (row.fields or ())]


def with_fields(schema: str) -> str:
    # The names in quotes, as many a line as there is room for.
    names = textwrap.fill(
        ", ".join(f'"{name}"' for name in TASK_CODES), WIDTH - 8,
        initial_indent=" " * 18, subsequent_indent=" " * 18, break_on_hyphens=False,
    )  # fmt: skip
    schema = replaced(schema, r' {18}"task-[^\]]*?(?=\n {16}\])', names)
    for field in FIELDS:
        types = types_with(field.name)
        meaning = f"In {listed(types)}: {field.meaning}" if types else field.meaning
        name = field.in_line or field.name
        head = f'        "{name}": {{\n          "description": "'
        schema = replaced(schema, re.escape(head) + r'[^"]*', head + meaning)
    return schema


def with_kinds(asking: str) -> str:
    rows = ["| kind | key | severity | begins | pending | is over |", "|---|---|---|---|---|---|"]
    for kind in CATALOGUE:
        pending = duration(kind.pending).removesuffix("0s") if kind.pending else ""
        cells = (f"`{kind.name}`", kind.key, kind.severity.value, kind.begins, pending, kind.ends)
        rows.append(f"| {' | '.join(cells)} |")
    return replaced(asking, r"\| kind \| key \|.*?\n(?=\n)", "\n".join(rows) + "\n")


WRITERS: dict[str, Callable[[str], str]] = {
    "docs/asking.md": with_kinds,
    "docs/log.md": with_levels,
    "docs/states.md": with_ends,
    "docs/monitoring.md": with_metrics,
    "ha_monitor/schema/line.schema.json": with_fields,
}


def outdated() -> dict[str, str]:
    """The documents that do not say what the catalogue says, and what they should be."""
    found = {}
    for name, writer in WRITERS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        if (right := writer(text)) != text:
            found[name] = right
    return found


if __name__ == "__main__":
    for name, text in outdated().items():
        (ROOT / name).write_text(text, encoding="utf-8")
