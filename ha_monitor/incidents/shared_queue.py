"""What is known of the consumers of the event queue: this store's instances, and others."""

from __future__ import annotations

from typing import NamedTuple


class SharedQueue(NamedTuple):
    """The event queue, as the leader counted its consumers."""

    name: str
    consumers: int = 0
    """The fewest counted lately."""
    instances: int = 0
    """Instances that the store knows."""
    lasts: float | None = None
    """Seconds for which something else has consumed from it; None if nothing else does."""

    @property
    def others(self) -> int:
        """The minimum number of consumers that are not these instances."""
        return 0 if self.lasts is None else self.consumers - self.instances


def shared_text(queue: str, consumers: int, instances: int) -> str:
    """What is wrong, and what to do."""
    return (
        f"{queue} has {consumers} consumers, and this store knows {instances} "
        f"instance{'' if instances == 1 else 's'}: something else takes events away, probably instances with another "
        "store; give those a node_id of their own, or the same store.url"
    )
