"""Checks what the instances know of beat's schedules. Asks only the store: the instances have asked the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ha_monitor.check.findings import Finding, ok, warning
from ha_monitor.config.schema import Config
from ha_monitor.errors import ConfigurationError, StoreUnavailable
from ha_monitor.schedules.model import Judgement, Source
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.schedules import KnownSource

_WHO = {Source.CONF: "the workers", Source.REDBEAT: "RedBeat"}
_REMEDY = {
    Source.CONF: "schedules in the configuration are watched all the same (docs/schedules.md)",
    Source.REDBEAT: "correct redbeat.url and redbeat.prefix",
}


def check_schedules(config: Config) -> Iterator[Finding]:
    """Whether the sources of schedules could be read, and what they reported. Nothing if the store cannot be read."""
    reader = StoreReader(config.store, config.node_id)
    try:
        reader.connect()
        sources, judgements = reader.schedules.sources(), reader.schedules.judgements()
    except (StoreUnavailable, ConfigurationError):
        return  # `check_store` reports it
    finally:
        reader.close()
    yield from findings_of(sources, judgements, is_expected=bool(config.redbeat.url or config.schedules))


def findings_of(
    sources: Mapping[Source, KnownSource], judgements: Sequence[Judgement], *, is_expected: bool
) -> Iterator[Finding]:
    """The findings about what the instances know.

    :param is_expected: whether the configuration names schedules or a source of them, so that there should be some.
    """
    for source, known in sources.items():
        if known.problem:
            who, cure = _WHO.get(source, source.value), _REMEDY.get(source, "")
            yield warning("schedules", f"{who} could not be asked for the schedule of beat: {known.problem}; {cure}")
    if judgements or sources:
        unclear = sum(bool(one.definition.problem or one.definition.differs) for one in judgements)
        more = f", {unclear} of them with something unclear: `ha-monitor schedules -o wide`" if unclear else ""
        count = len(judgements)
        yield ok(
            "schedules",
            f"{count} schedule{'' if count == 1 else 's'} of beat {'is' if count == 1 else 'are'} watched{more}",
        )
    elif is_expected:
        yield ok("schedules", "no instance has looked at schedules yet")
