"""Names, queues and workers in a filter that do not exist.

Otherwise an empty list would look like an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ha_monitor.query.language import Filter, Pattern
from ha_monitor.store.queries import Gap, Queries
from ha_monitor.store.queue_flow import base_of
from ha_monitor.text.suggestions import similar

_MAX_SIMILAR = 3
_KNOWN: dict[str, Callable[[Queries], Iterable[str]]] = {
    "name": lambda queries: queries.names(),
    "queue": lambda queries: [base_of(one.name) for one in queries.known_queues()],
}
"""The known values of a field."""


def unknown_values(asked: Filter, queries: Queries, workers: Callable[[], Iterable[str] | None]) -> Iterator[Gap]:
    """Notes for an empty answer: which names, queues and workers in the filter are not known, and similar ones.

    :param workers: the known workers; None if the list would be incomplete.
    :raises StoreUnavailable: as the port and `workers` do.
    """
    for condition in asked.conditions:
        field = condition.field.name
        if condition.operator != "=":
            continue
        if field in _KNOWN:
            known: Iterable[str] | None = _KNOWN[field](queries)
        else:
            known = workers() if field == "worker" else None
        if known is not None:
            yield from unknown_patterns(f"tasks of the {field}", condition.patterns, known)


def unknown_patterns(of: str, patterns: Iterable[Pattern], known: Iterable[str]) -> Iterator[Gap]:
    """Notes about patterns that nothing matches. :param of: such as `tasks of the name`."""
    texts = sorted(set(known))
    for pattern in patterns:
        text = "*".join(pattern.parts)
        if text.strip("*") and not any(map(pattern.matches, texts)):
            found = ", ".join(similar(text, texts, _MAX_SIMILAR))
            nearest = f" (near it: {found})" if found else ""
            yield Gap(f"{of} {text}, which is not known{nearest}", 0, 0)
