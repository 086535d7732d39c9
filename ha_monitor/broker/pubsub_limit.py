"""How much Redis keeps for a subscriber, before it closes the connection and what was kept is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SETTING = "client-output-buffer-limit"
MIB = 1024 * 1024
BUFFER = 64 * MIB
"""What an instance keeps by itself of what it could not handle yet. Beyond that, Redis keeps it, up to its limit."""


class PubSubLimit(NamedTuple):
    """The part of the setting that is about pub/sub. All subscribers get the same, so it hits all at once."""

    hard: int
    """Bytes beyond which the connection is closed at once; 0 for no limit."""
    soft: int
    """Bytes beyond which it is closed if that lasts for `seconds`; 0 for no limit."""
    seconds: int

    @property
    def is_low(self) -> bool:
        """Whether it is below what is recommended."""
        return 0 < self.hard < RECOMMENDED.hard or 0 < self.soft < RECOMMENDED.soft

    def __str__(self) -> str:
        return f"pubsub {_size(self.hard)} {_size(self.soft)} {self.seconds}"


RECOMMENDED = PubSubLimit(4 * BUFFER, BUFFER, 60)
"""For a minute Redis may keep as much again as the instance. A message of 32 MiB, or what comes within a second or two
at the highest rates, is nothing unusual for Celery."""


def limit_in(settings: Mapping[str, str]) -> PubSubLimit | None:
    """Read what CONFIG GET says of `SETTING`; None if that cannot be read."""
    words = settings.get(SETTING, "").split()
    try:
        at = words.index("pubsub") + 1
        return PubSubLimit(*(int(word) for word in words[at : at + 3]))
    except (ValueError, TypeError):
        return None


def _size(count: int) -> str:
    return f"{count // MIB}mb" if count and count % MIB == 0 else str(count)
