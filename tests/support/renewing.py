"""`ha-monitor` with an account of how long it works between two renewals of its lease, however long that is:
python -m tests.support.renewing FILE run --instance 1. It counts seconds of a core: by the clock, all takes long on a
busy machine. And it asks about the queue so often that a question comes before each message.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ha_monitor.cli.main import main
from ha_monitor.config.schema import StoreSettings
from ha_monitor.pipeline import broker_link
from ha_monitor.store.store import RedisStore

EVERY = 0.05
"""Seconds between two renewals: a quarter of what they are with the shortest lease."""
QUESTIONS_EVERY = 0.01
"""Seconds between two questions about the queue. An answer comes after all that was delivered before it."""


def count(file: Path) -> None:
    """Have it counted from now on."""
    tick = RedisStore.tick
    latest: float | None = None
    most = 0.0

    def counted(store: RedisStore, *arguments: Any, **options: Any) -> Any:
        nonlocal latest, most
        most = max(most, 0.0 if latest is None else time.process_time() - latest)
        new = file.with_suffix(".new")
        new.write_text(str(most))
        new.replace(file)
        result = tick(store, *arguments, **options)
        latest = time.process_time()
        return result

    RedisStore.tick = counted  # type: ignore[assignment]


def run() -> int:
    """Run the command line."""
    count(Path(sys.argv.pop(1)))
    broker_link.HEARTBEAT_EVERY = broker_link.DEPTH_EVERY = QUESTIONS_EVERY
    StoreSettings.tick_every = property(lambda _settings: EVERY)  # type: ignore[assignment, method-assign]
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
