"""The instances of the fleet, as known from the store alone."""

from __future__ import annotations

from ha_monitor.config.schema import Config
from ha_monitor.status.fleet import Fleet, Queue, assemble
from ha_monitor.store.reader import InstanceEntry, StoreReader, Workers


def fleet(reader: StoreReader, config: Config, workers: Workers) -> Fleet:
    """The state of the fleet. The depth of its queue is what instances have published.

    :param workers: the workers that were read.
    :raises StoreUnavailable: as the reader does.
    """
    now, instances = reader.queries.now(), reader.instances()
    return assemble(
        config,
        now=now,
        instances=instances,
        workers=workers,
        counts=reader.counts(),
        queue=Queue(config.queue_name, depth=_depth(instances)),
    )


def _depth(instances: list[InstanceEntry]) -> int | None:
    reported = [one.stats.get("depth") for one in instances if one.lease_left > 0]
    return max((one for one in reported if isinstance(one, int) and 0 <= one < 2**53), default=None)
