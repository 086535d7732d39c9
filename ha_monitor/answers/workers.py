"""Which workers exist, and what they do."""

from __future__ import annotations

from ha_monitor.answers.result import Result
from ha_monitor.answers.worker_item import worker_item
from ha_monitor.config.schema import Config
from ha_monitor.query.language import Pattern, split_values
from ha_monitor.query.queues import rates_since
from ha_monitor.query.workers import seen_workers
from ha_monitor.store.queries import Gap
from ha_monitor.store.reader import StoreReader

_STATES = ("lost", "late", "online", "offline")
"""Those that need attention first."""


def workers(
    reader: StoreReader, config: Config, pattern: str | None = None, limit: int = 0, *, reverse: bool = False
) -> Result:
    """The workers that match a pattern; if one is given, with what became of the tasks of lost workers.

    :param pattern: several, separated by commas, in which `*` stands for any text; None for all.
    :param limit: how many; 0 for all.
    :raises StoreUnavailable: as the reader does.
    """
    read = reader.workers(config.workers.late_after)
    entries = read.entries
    if pattern is not None:
        wanted = [Pattern(parts) for parts in split_values(pattern)]
        entries = [one for one in entries if any(each.matches(one.name) for each in wanted)]
    entries = sorted(entries, key=lambda one: (_STATES.index(one.state) if one.state in _STATES else 0, one.name))
    if reverse:
        entries.reverse()
    shown = entries[:limit] if limit else entries
    now, named = reader.queries.now(), pattern is not None
    gaps = [Gap(f"{read.more} workers that have been silent for longer", 0, 0)] if read.more else []
    if named and not config.stuck.enabled and any(one.state == "lost" for one in entries):
        gaps.append(Gap("tasks of lost workers that no other has taken: stuck.enabled is false", 0, 0))
    gaps += reader.queries.gaps(rates_since(now), now)
    return Result(
        now,
        seen_workers(reader.queries, shown, now, named=named),
        lambda one, _now: worker_item(one),
        "all workers that an instance has heard of" if not read.more else f"the {len(read.entries)} heard of last",
        gaps,
        len(entries) > len(shown),
    )
