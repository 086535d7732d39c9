"""An instance that does nothing but lead and tell the channels: `python -m tests.support.teller FILE`, which names the
settings. The incidents are those of a file that the test writes. It is killed again and again, and the test then ends
the times of what it held: they are so long that none ends by itself on a busy machine.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from ha_monitor.clock import SystemClock
from ha_monitor.config.notify import Notify
from ha_monitor.config.schema import LogLevel, StoreSettings
from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.notify.plan import Pace
from ha_monitor.outputs.line import Identity
from ha_monitor.outputs.log import Threshold, make_logger
from ha_monitor.outputs.output import StreamOutput
from ha_monitor.pipeline import notifications
from ha_monitor.pipeline.stats import Stats
from ha_monitor.store.incidents import Incident
from ha_monitor.store.redis_deliveries import RedisDeliveries
from ha_monitor.store.store import RedisStore
from tests.support.threads import plain_threads

NODE = "tests"
HELD = 600.0
"""Seconds for which a lease holds, and a message is made by nobody else."""


class KnownIncidents:
    """Those in a file; as they were before while it is written."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def incidents(self) -> list[Incident]:
        return msgspec.json.decode(self._file.read_bytes(), type=list[Incident])

    def unjudged(self) -> frozenset[str]:
        return frozenset()


class Teller:
    """The instance."""

    def __init__(self, url: str, incidents: Path, notify: dict[str, Any]) -> None:
        clock = self._clock = SystemClock()
        self._store = RedisStore(StoreSettings(url=url, lease=HELD, timeout=10.0), NODE, clock)
        settings = msgspec.convert(notify, Notify)
        identity = Identity(NODE, str(os.getpid()), "host", os.getpid())
        logger = make_logger(
            output=StreamOutput(1),
            identity=identity,
            clock=clock,
            threshold=Threshold(LogLevel.DEBUG),
            scrub=str,
        )
        recipients = {
            name: one._replace(pace=one.pace and one.pace._replace(**_short(one.pace)))
            for name, one in notifications.recipients_of(settings).items()
        }
        self._duty = notifications.NotificationsDuty(
            KnownIncidents(incidents),
            RedisDeliveries(self._store),
            recipients,
            settings,
            node_id=NODE,
            store=self._store,
            stats=Stats(),
            logger=logger,
            clock=clock,
            threads=plain_threads(clock),
        )
        self._leads = False

    def run(self) -> None:
        """Until it is killed."""
        while True:
            try:
                self._turn()
            except StoreUnavailable:
                self._store.close()
                self._clock.sleep(0.2)
            except LeaseLost:
                self._register()
            self._clock.sleep(0.05)

    def _turn(self) -> None:
        if not self._store.connected:
            self._store.connect()
            if self._store.token:
                self._store.recover()
            else:
                self._register()
        ticked = self._store.tick(b"{}", [], eligible=True, watermark_age=0.0)
        if ticked.leads != self._leads or ticked.followed:
            self._leads = ticked.leads
            self._duty.start_anew()
        if ticked.leads:
            self._duty.run()

    def _register(self) -> None:
        self._store.register({"instance": str(os.getpid()), "host": "host", "pid": os.getpid()})


def _short(pace: Pace) -> dict[str, Any]:
    """Without pauses, so that each incident has a message of its own."""
    most = None if pace.max_per_hour is None else 1_000_000
    return {
        "group_wait": 0.0,
        "group_interval": 0.0,
        "max_per_hour": most,
        "repeat_interval": 5.0 if pace.resolved_resent_for else pace.repeat_interval,
    }


def main() -> None:
    notifications.CLAIM_TIMEOUT = HELD
    notifications.LOOK_EVERY = 0.05
    settings = json.loads(Path(sys.argv[1]).read_text())
    Teller(settings["url"], Path(settings["incidents"]), settings["notify"]).run()


if __name__ == "__main__":
    main()
