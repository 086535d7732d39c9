"""Whether two instances consume from the same broker, where the broker has no name: judged by what each has received
from the other (`pipeline/peers.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

MAX_BEHIND = 10.0
"""Age in seconds of the watermark up to which an instance counts: if it is older, a greeting may not be handled yet."""


class Listener(NamedTuple):
    """What an instance has received from the others at its broker."""

    greeting: str
    greetings: Collection[str]
    behind: float | None
    """As in `Stats`."""

    @classmethod
    def of(cls, stats: Mapping[str, Any]) -> Listener:
        """From what an instance has published; one of a version that sends no greetings has received nothing."""
        greeting, greetings, behind = stats.get("greeting"), stats.get("greetings"), stats.get("behind")
        return cls(
            greeting if isinstance(greeting, str) else "",
            greetings if isinstance(greetings, list) else (),
            behind if isinstance(behind, (int, float)) else None,
        )

    def is_at_other_broker(self, other: Listener) -> bool:
        """Whether the two listen at different brokers: both have a greeting, neither has received the other's, and
        neither is so far behind that the other's may still be unhandled.
        """
        if not (self.greeting and other.greeting):
            return False
        if self.greeting in other.greetings or other.greeting in self.greetings:
            return False
        return all(one.behind is not None and one.behind <= MAX_BEHIND for one in (self, other))


def different_brokers_text(one: str, other: str, node_id: str = "") -> str:
    """What is wrong, and what to do.

    :param one: address of a broker; `other` is that of the other instance.
    """
    whose = f" of node_id {node_id}" if node_id else ""
    return (
        f"instances{whose} consume from two Redis servers, at {one} and at {other}: what is sent to all listeners of "
        "one does not reach the other, so that one record mixes two applications; give the instances of each broker a "
        "node_id of their own"
    )
