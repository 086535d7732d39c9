"""What the leader does with the shared record: each call is valid only with the leader's token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ha_monitor.store.api import NOTHING_NEW
from ha_monitor.store.incidents import IncidentChanges
from ha_monitor.store.outbox import OutboxItem, read_items
from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.redis_schedules import SchedulePiece, pieces_of
from ha_monitor.store.results import Silent, Table, Watched, Watching, WorkerState
from ha_monitor.store.schedules import ScheduleChanges
from ha_monitor.store.store import RedisStore

MAX_WORKERS_PER_CALL = 200
"""Workers that one call looks at, so that none blocks Redis for long."""
MAX_CALLS = 5
"""Calls of one duty in a row; only one if the store is far away. The rest is left for the next time."""

_to_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class _Silence(NamedTuple):
    """How a worker's silence is to be judged; see `api.LeaderDuties.watch`."""

    may_declare_lost: bool
    together: bool
    watermark: tuple[float, float] | None


class Duties:
    """How the leader watches the fleet and its workers. Tasks that make no progress are in `stuck.py`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the progress, because another instance led meanwhile."""
        self._watch_places: list[str] = []
        self._losses_place: list[Any] = []
        self._seen: dict[str, WorkerState] = {}
        """The workers as of the last complete round."""
        self._looked_at: dict[str, WorkerState] = {}
        """The workers looked at since then."""

    def watch(
        self,
        watching: Watching,
        queues: Sequence[str],
        *,
        may_declare_lost: bool,
        together: bool = False,
        watermark: tuple[float, float] | None = None,
        consumes: Mapping[str, str] = NOTHING_NEW,
    ) -> Watched | None:
        """See `api.LeaderDuties`. If there are very many workers, each call looks at some; `Watched.workers` has them
        all.
        """
        silence = _Silence(may_declare_lost, together, watermark)
        watched = self._watch_some(watching, silence, queues, consumes)
        for _ in range(MAX_CALLS - 1):
            if watched is None or self._watch_places[0] == "0" or self._store.is_far:
                break
            more = self._watch_some(watching, silence, [], {})
            if more is None:
                break  # another instance leads by now; what was found before is in this instance's outbox
            silent = watched.silent.with_others(more.silent)
            watched = more._replace(items=watched.items + more.items, silent=silent)
        return watched

    def _watch_some(
        self, watching: Watching, silence: _Silence, queues: Sequence[str], consumes: Mapping[str, str]
    ) -> Watched | None:
        watermark = silence.watermark
        options = {
            "late_after": int(watching.late_after * 1000),
            "lost_after": int(watching.lost_after * 1000),
            "may_declare_lost": silence.may_declare_lost,
            "together": silence.together,
            "watermark": None if watermark is None else [int(seconds * 1000) for seconds in watermark],
            "most_looks": MAX_WORKERS_PER_CALL,
            "places": self._watch_places,
            "queues": queues,
            "consumes": [text for pair in consumes.items() for text in pair],
        }
        reply = self._store.run("watch", options)
        if reply is None:
            return None
        first, raw, counts, workers, known, places, tables, silent, merged_ago, now = reply
        instances, waiting, retries, dead_letters, stuck, orphaned = counts
        late, least, most = silent
        self._watch_places = [place.decode() for place in places]
        for raw_name, state, active, is_silent, ahead, heard, is_confirmed, came in workers:
            running, name = None if active < 0 else active, raw_name.decode("utf-8", "replace")
            times = ahead / 1000, (now - heard) / 1000
            self._looked_at[name] = WorkerState(
                *(name, state.decode(), running, bool(is_silent), *times, bool(is_confirmed)),
                came=came / 1000 if came >= 0 else None,
                heard=heard / 1000,
            )
        if self._watch_places[0] == "0":
            self._seen, self._looked_at = self._looked_at, {}
        return Watched(
            read_items(first, raw),
            instances,
            waiting,
            retries,
            dead_letters,
            list({**self._seen, **self._looked_at}.values()),
            [name.decode("utf-8", "replace") for name in known],
            stuck,
            orphaned,
            [Table(name.decode(), None if size < 0 else size, limit, refused) for name, size, limit, refused in tables],
            Silent(late, least / 1000, most / 1000),
            None if merged_ago < 0 else merged_ago / 1000,
            is_whole=self._watch_places[0] == "0" or bool(self._seen),
        )

    def losses(self, *, report: bool = True) -> list[OutboxItem]:
        """Compute which events were lost; empty if this instance does not lead.

        If there are very many processes, each call looks at some.

        :param report: whether they are announced and counted; if not, only the state for finding them is updated.
        """
        items: list[OutboxItem] = []
        for _ in range(MAX_CALLS):
            items += self._some_losses(report=report)
            if self.all_accounted or self._store.is_far:
                break
        return items

    def incidents(self, changes: IncidentChanges) -> list[OutboxItem]:
        """See `api.LeaderDuties`."""
        options = {
            "changed": [text for one in changes.changed for text in (one.id, as_lua_string(_to_json(one)))],
            "removed": list(changes.removed),
            "events": [as_lua_string(_pack(one)) for one in changes.events],
        }
        reply = self._store.run("incidents", options)
        return [] if reply is None else read_items(*reply)

    def schedules(self, changes: ScheduleChanges) -> bool:
        """See `api.LeaderDuties`."""
        return all(self._write(piece) for piece in pieces_of(changes))

    def _write(self, piece: SchedulePiece) -> bool:
        options = {
            "judged": piece.judged,
            "due_times": piece.due_times,
            "dropped": piece.dropped,
            "asked": piece.asked,
            "habits": piece.habits,
            "unlearned": piece.forgotten,
            "coverage": piece.coverage,
        }
        return self._store.run("schedules", options) is not None

    @property
    def all_accounted(self) -> bool:
        """Whether `losses` has looked at all processes, so that it starts with the first again."""
        return not self._losses_place

    def _some_losses(self, *, report: bool) -> list[OutboxItem]:
        reply = self._store.run("losses", {"report": report, "place": self._losses_place})
        if reply is None:
            self._losses_place = []
            return []
        first, raw, (cursor, left) = reply
        more = left or cursor != b"0"
        self._losses_place = [cursor.decode(), list(map(as_lua_string, left))] if more else []
        return read_items(first, raw)
