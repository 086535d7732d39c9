"""The limit of what Redis buffers for a subscriber. Beyond it, Redis closes the connection and the buffer is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SETTING = "client-output-buffer-limit"
MIB = 1024 * 1024
BUFFER = 64 * MIB
"""Bytes that an instance buffers itself and has not handled yet. Beyond that, Redis buffers, up to its own limit."""


class PubSubLimit(NamedTuple):
    """The pub/sub part of the setting. All subscribers receive the same, so all of them reach the limit at once."""

    hard: int
    """Bytes beyond which Redis closes the connection at once; 0 for no limit."""
    soft: int
    """Bytes beyond which Redis closes the connection if that lasts for `seconds`; 0 for no limit."""
    seconds: int

    @property
    def is_low(self) -> bool:
        """Whether the limit is lower than recommended."""
        return 0 < self.hard < RECOMMENDED.hard or 0 < self.soft < RECOMMENDED.soft

    def __str__(self) -> str:
        return f"pubsub {_size(self.hard)} {_size(self.soft)} {self.seconds}"


RECOMMENDED = PubSubLimit(4 * BUFFER, BUFFER, 60)
"""The soft limit lets Redis buffer, for a minute, as much again as the instance. A message of 32 MiB, or as much within
a second or two at the highest rates, is nothing unusual for Celery."""


def limit_in(settings: Mapping[str, str]) -> PubSubLimit | None:
    """The limit in a reply to CONFIG GET of `SETTING`; None if it cannot be read."""
    words = settings.get(SETTING, "").split()
    try:
        at = words.index("pubsub") + 1
        return PubSubLimit(*(int(word) for word in words[at : at + 3]))
    except (ValueError, TypeError):
        return None


def _size(count: int) -> str:
    return f"{count // MIB}mb" if count and count % MIB == 0 else str(count)
