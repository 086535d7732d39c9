"""Incidents, silences and marks of deployments in Redis: see `incidents.py`. Only the leader writes incidents
(`lua/incidents.lua`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil
from typing import Any, TypeVar

import msgspec

from ha_monitor.store.deliveries import read_notified, with_notified
from ha_monitor.store.incidents import (
    MAX_MARKS,
    MAX_SILENCES,
    Incident,
    Mark,
    Phase,
    Severity,
    Silence,
    with_silences,
    worst_first,
)
from ha_monitor.store.keys import Keys
from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.scripts import read_script

T = TypeVar("T")
_incident_in = msgspec.json.Decoder(Incident).decode
_silence_in = msgspec.json.Decoder(Silence).decode
_mark_in = msgspec.json.Decoder(Mark).decode
_to_json = msgspec.json.Encoder().encode


class RedisIncidents:
    """See `incidents.IncidentList`, `incidents.Silences` and `incidents.Marks`."""

    def __init__(self, commands: Callable[..., list[Any]], keys: Keys) -> None:
        """:param commands: runs commands in one round trip, over an open connection."""
        self._commands = commands
        self._keys = keys

    def incidents(self) -> list[Incident]:
        keys = self._keys
        raw, notified, silences, time = self._commands(
            ("HGETALL", keys.incidents), ("HGETALL", keys.notify_told), ("HVALS", keys.silences), ("TIME",)
        )
        kept = [one for one in _kept(raw) if one.kind]
        known = with_notified(kept, read_notified(dict(zip(notified[::2], notified[1::2], strict=True))))
        return worst_first(with_silences(known, list(_read(_silence_in, silences)), _seconds(time)))

    def kept(self) -> list[Incident]:
        """All as the leader wrote them, without silences and deliveries. One that cannot be read has no kind."""
        return _kept(self._call("HGETALL", self._keys.incidents))

    def silences(self) -> list[Silence]:
        raw, time = self._commands(("HVALS", self._keys.silences), ("TIME",))
        found, now = _read(_silence_in, raw), _seconds(time)
        return sorted((one for one in found if one.until > now), key=lambda one: (one.until, one.id))

    def silence(self, silence: Silence) -> bool:
        entry = (silence.id, as_lua_string(_to_json(silence)), ceil(silence.until * 1000))
        return bool(self._run("silence", silence=entry, most_silences=MAX_SILENCES))

    def end(self, silence_id: str) -> bool:
        return bool(self._call("HDEL", self._keys.silences, silence_id))

    def marks(self) -> list[Mark]:
        return list(_read(_mark_in, self._call("LRANGE", self._keys.deploys, 0, MAX_MARKS - 1)))

    def mark(self, mark: Mark) -> None:
        self._run("deploy", mark=as_lua_string(_to_json(mark)), most_marks=MAX_MARKS)

    def _run(self, name: str, **options: Any) -> Any:
        script = read_script(name)
        return self._call("EVAL", script.source, *script.arguments(self._keys.shared(), {}, options))

    def _call(self, *command: Any) -> Any:
        return self._commands(command)[0]


def _seconds(time: Sequence[bytes]) -> float:
    """The reply to TIME in seconds since the epoch."""
    return int(time[0]) + int(time[1]) / 1e6


def _kept(raw: Sequence[bytes]) -> list[Incident]:
    return [_incident(raw[at], raw[at + 1]) for at in range(0, len(raw), 2)]


def _incident(incident_id: bytes, raw: bytes) -> Incident:
    name = incident_id.decode("utf-8", "replace")
    return next(_read(_incident_in, [raw]), Incident(name, "", "", Severity.WARN, Phase.RESOLVED, 0.0, 0.0, ""))


def _read(decode: Callable[[bytes], T], raw: Iterable[bytes]) -> Iterator[T]:
    """Leaves out what a later version wrote, and foreign values."""
    for one in raw:
        try:
            yield decode(one)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
