"""A Redis that crashes and comes back without the last it was told, as with `appendfsync everysec`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ha_monitor.errors import StoreUnavailable
from ha_monitor.outputs.handler_calls import Outcome
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.repeats import Repeats
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.outbox import OutboxItem
from tests.integration.storing import Instance
from tests.support.services import PrivateRedis
from tests.support.threads import plain_threads
from tests.unit.builders import TIME, event


class Lines:
    """Remembers which are written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, items: Sequence[OutboxItem]) -> int:
        self.written += [item.entry.event.type for item in items]
        return len(items)


class CrashingHandler:
    """At the first handler's failure Redis is gone with what it was told since `keep`."""

    any = True
    keep_dead_letters = 10

    def __init__(self, server: PrivateRedis) -> None:
        self._server = server
        self._kept = Path(f"{server.dir}-kept")
        self._crashed = False

    def keep(self) -> None:
        """What is written now stays."""
        self._server.copy_data(self._kept)

    def are_due(self, item: OutboxItem) -> bool:
        return True

    def call(self, item: OutboxItem, outcome: Outcome) -> None:
        if self._crashed:
            return
        self._crashed = True
        self._server.kill()
        self._server.replace_data(self._kept)
        self._server.start()
        outcome.retries.append((1000, b""))


class Nothing:
    """Nothing has to go on beside it."""

    def renew_lease(self) -> bool:
        return True

    def keep_alive(self) -> None: ...

    def made_progress(self) -> None: ...


def test_what_comes_after_the_forgotten_is_announced(own_redis: PrivateRedis) -> None:
    """Given lines that are written and whose entries Redis forgot, the next events get their sequence numbers; they
    have lines nevertheless.
    """
    one = Instance(own_redis.url()).start()
    lines, handlers = Lines(), CrashingHandler(own_redis)
    announcements = Announcements(
        store=one.store,
        lines=lines,  # type: ignore[arg-type]
        handlers=handlers,  # type: ignore[arg-type]
        stats=Stats(),
        threads=plain_threads(),
        upkeep=Nothing(),
        repeats=Repeats(one.store, None, one.clock),
    )
    handlers.keep()
    announcements.add(one.apply(*[event(f"old-{number}", uuid=None) for number in range(3)], announce=False).items)
    with pytest.raises(StoreUnavailable):
        announcements.announce()
    assert lines.written == ["old-0", "old-1", "old-2"]

    announcements.forget()
    one.store.close()
    one.store.connect()
    announcements.recover(one.store.recover())
    new = one.apply(*[event(f"new-{number}", uuid=None, at=TIME + 1) for number in range(3)], announce=False).items
    announcements.add(new)
    announcements.announce()

    assert [item.sequence for item in new] == [0, 1, 2], "Redis has not forgotten: the test would prove nothing"
    assert lines.written[3:] == ["new-0", "new-1", "new-2"]
