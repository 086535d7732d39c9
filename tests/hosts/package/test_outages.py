"""Broker and Redis away for a minute: the instances wait, say so, and lose nothing."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.hosts import RABBITMQ, REDIS
from tests.support.hosts_events import fresh_copies
from tests.support.hosts_package import Site
from tests.support.ledger import Account, Published, assert_guarantee
from tests.support.measured import Measured
from tests.support.recording import Recorded, publish

AWAY = 60.0
"""Seconds, twice the unit's WatchdogSec."""
WAITING = re.compile(r"waiting for (Redis|the broker) since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: .+")


def test_broker_and_redis_away_for_a_minute(both: list[Site], measured: Measured) -> None:
    """Given events in the queue, both services of a site stop, at both sites at once; after a minute they come back."""
    first, second = [[list(fresh_copies(1)) for _ in both] for _ in range(2)]
    with ThreadPoolExecutor(len(both)) as pool:
        accounts = list(pool.map(lose_services, both, first, second))
    for site, (account, seconds) in zip(both, accounts, strict=True):
        what = f"{site.name}: broker and Redis away for {AWAY:.0f} s"
        measured(what, f"lost {account.lost} of {account.published}, consuming again {seconds:.1f} s after their start")
        # Redis may have stopped between a merge and its answer: then a line can come twice.
        assert_guarantee(account, may_double=True)


def lose_services(site: Site, before: list[Recorded], after: list[Recorded]) -> tuple[Account, float]:
    """What became of events sent right before and right after, and how long it took until all consumed again."""
    journal = site.journal()
    restarts, pids = site.show("NRestarts"), site.show("MainPID")
    publish(site.services.broker_url, before)

    site.services.host.run(f"systemctl stop {RABBITMQ} {REDIS}", timeout=120)
    stopped = time.monotonic()
    texts = site.wait_for_status("waiting for ")
    assert all(WAITING.fullmatch(text) for text in texts), texts
    time.sleep(max(0.0, stopped + AWAY - time.monotonic()))  # the outage itself

    assert site.show("ActiveState") == ["active"] * 3
    assert all(WAITING.fullmatch(text) for text in site.show("StatusText"))
    site.services.host.run(f"systemctl start {REDIS} {RABBITMQ}", timeout=120)
    began = time.monotonic()
    site.wait_until_consuming()
    took = time.monotonic() - began
    publish(site.services.broker_url, after)
    account = site.account(journal, Published([*before, *after]))

    assert (site.show("NRestarts"), site.show("MainPID")) == (restarts, pids), "nobody was restarted"
    return account, took
