"""What is known of the consumers of the queue of events: those of this store's instances, and others."""

from __future__ import annotations

from typing import NamedTuple


class SharedQueue(NamedTuple):
    """The queue, as the leader counted its consumers."""

    name: str
    consumers: int = 0
    """As few as there were lately."""
    instances: int = 0
    """That the store knows."""
    lasts: float | None = None
    """Seconds for which something else has consumed it; None if nothing does."""

    @property
    def others(self) -> int:
        """Consumers that are not of these instances, at least."""
        return 0 if self.lasts is None else self.consumers - self.instances


def shared_text(queue: str, consumers: int, instances: int) -> str:
    """What is wrong, and what to do."""
    return (
        f"{queue} has {consumers} consumers, and this store knows {instances} "
        f"instance{'' if instances == 1 else 's'}: something else takes events away, probably instances with another "
        "store; give those a node_id of their own, or the same store.url"
    )
