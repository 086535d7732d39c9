"""Merging a whole batch, as the loop does."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.events.decode import Batch
from ha_monitor.pipeline.collector import split
from ha_monitor.store.api import Store
from ha_monitor.store.results import Applied


def merged(store: Store, batch: Batch) -> Iterator[Applied]:
    """What each call brought: on a busy machine one ends early, and tells how far it came."""
    while True:
        store.send_apply(batch)
        applied = store.receive_apply()
        yield applied
        if applied.merged == len(batch.tasks):
            return
        _, batch = split(batch, applied.merged)
