"""The keys and channels that kombu uses on a Redis broker, given the URL, the names and the transport options."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ha_monitor.config.schema import Broker


class Layout(NamedTuple):
    """The keys and channels on one Redis broker."""

    key_prefix: str
    """kombu's `global_keyprefix`, which precedes all keys and channels."""
    events: str
    """Pattern of the channels of events, without `key_prefix`."""
    control: str
    """The channel on which workers receive questions, without `key_prefix`."""
    replies: str
    """Pattern of the keys of the workers' answers."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Patterns of all keys that are written."""
        return f"{self.key_prefix}_kombu.binding*", self.replies

    @property
    def channels(self) -> tuple[str, ...]:
        """Patterns of all channels."""
        return f"{self.key_prefix}{self.events}", f"{self.key_prefix}{self.control}"


def layout_of(url: str, settings: Broker) -> Layout:
    """The layout on the Redis at a URL."""
    options = settings.transport_options
    prefix = _fanout_prefix(options.get("fanout_prefix", True), database_of(url))
    events = f"{prefix}{settings.exchange}"
    return Layout(
        key_prefix=str(options.get("global_keyprefix", "")),
        events=f"{events}/*" if options.get("fanout_patterns", True) else events,
        control=f"{prefix}{settings.control_exchange}.pidbox",
        replies=f"*.reply.{settings.control_exchange}.pidbox*",
    )


def database_of(url: str) -> int:
    """The number of the database that a URL names."""
    parts = urlsplit(url.partition(";")[0])
    socket = parts.scheme in ("unix", "redis+socket")
    named = parse_qs(parts.query).get("virtual_host", ["0"])[0] if socket else parts.path
    number = named.strip("/")
    return int(number) if number.isdigit() else 0


def _fanout_prefix(option: Any, database: int) -> str:
    if not option:
        return ""
    pattern = option if isinstance(option, str) else "/{db}."
    return pattern.replace("{db}", str(database))
