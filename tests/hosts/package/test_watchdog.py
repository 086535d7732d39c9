"""The watchdog ends an instance that hangs, and only then; what it held goes on elsewhere."""

from __future__ import annotations

import pytest

from tests.support.hosts_events import failures, fresh_copies, fresh_event, message
from tests.support.hosts_package import CONFIGURATION, DEFAULT, Site
from tests.support.ledger import Published, assert_guarantee
from tests.support.measured import Measured
from tests.support.process import wait_until
from tests.support.publishing import Load
from tests.support.recording import publish

WATCHDOG = 3
"""Seconds, instead of the unit's 30."""
SLOW_CALLS = 10
"""A second."""
HANDLERS = CONFIGURATION.parent / "handlers"
MARKER = HANDLERS / "hang"
HANDLER = f"""
import pathlib, time
from ha_monitor.handling import on

@on("deploy-hung")
def wait_for_a_lock_that_nobody_frees(event, task):
    while pathlib.Path("{MARKER}").exists():
        time.sleep(1000)

@on("task-failed")
def slow(event, task):
    time.sleep(1 / {SLOW_CALLS})
"""
# DEFAULT ends in the section of the store. No single answer may take as long as the watchdog waits.
WITH_HANDLER = DEFAULT + 'timeout = 1.0\n[broker]\nconnect_timeout = 1.0\n[handlers]\nmodules = ["hanging"]\n'


@pytest.fixture
def watched(site: Site) -> Site:
    """A site whose instances are killed when they make no progress for some seconds."""
    site.override(f"WatchdogSec={WATCHDOG}s")
    site.put(HANDLERS / "hanging.py", HANDLER)
    site.put(CONFIGURATION, WITH_HANDLER)
    site.restart()
    return site


def killed_by_watchdog(site: Site, since: str, name: str = "*") -> int:
    """How often systemd has ended instances because of the watchdog."""
    said = site.host.run(f"journalctl -q -o cat -u 'ha-monitor@{name}' {since} _PID=1").stdout
    return said.count("Failed with result 'watchdog'")


def test_a_stopped_instance_is_killed_and_started_anew(watched: Site, measured: Measured) -> None:
    """Given load, an instance that SIGSTOP froze is replaced, and what it held is announced."""
    journal = watched.journal()
    load = Load(watched.services.broker_url, fresh_copies(3), rate=500)
    wait_until(lambda: len(journal.read()) > 100, what="lines", interval=0.25)

    frozen = watched.signal("1", "STOP")
    wait_until(lambda: watched.became_active("1") > frozen, what="a restart", interval=0.25)
    took = watched.became_active("1") - frozen
    account = watched.account(journal, load.finish())

    figures = f"{took:.1f} s, lost {account.lost}, twice {account.doubled}"
    measured(f"{watched.name}: SIGSTOP until active again (WatchdogSec={WATCHDOG})", figures)
    assert killed_by_watchdog(watched, journal.since, "1") == 1
    assert_guarantee(account, may_double=True)


def test_a_hung_handler_leaves_its_stack_and_costs_no_event(watched: Site, measured: Measured) -> None:
    """Given an event whose handler never returns, the stacks of the instance that has it are in the journal, and once
    the cause is gone, every event is announced, that one, too."""
    journal = watched.journal()
    watched.put(MARKER, "")
    load = Load(watched.services.broker_url, fresh_copies(3), rate=400)
    poison = message(fresh_event("deploy-hung", reason="a lock"))

    publish(watched.services.broker_url, [poison])
    wait_until(lambda: killed_by_watchdog(watched, journal.since), 60, "a kill by the watchdog", 0.3)
    watched.host.run(f"rm {MARKER}")
    published = load.finish()
    published.add(poison)
    account = watched.account(journal, published, timeout=90)
    watched.wait_until_consuming()

    assert_guarantee(account, may_double=True)
    kills = killed_by_watchdog(watched, journal.since)
    stacks = "\n".join(journal.query("-u 'ha-monitor@*'"))
    assert "Fatal Python error: Aborted" in stacks
    assert "hanging.py" in stacks and "wait_for_a_lock_that_nobody_frees" in stacks
    assert "announcements.py" in stacks, "the stack reaches from the handler to the main loop"
    measured(f"{watched.name}: hung handler", f"{kills} kills, lost {account.lost}, twice {account.doubled}")


def test_handlers_that_are_slow_but_return_are_left_alone(watched: Site) -> None:
    """Given a batch that takes the handlers far longer than the watchdog allows for one, nobody is killed."""
    watched.host.run("systemctl stop ha-monitor@2 ha-monitor@3")
    journal = watched.journal()
    messages = list(failures(4 * WATCHDOG * SLOW_CALLS))

    began = watched.clock()
    publish(watched.services.broker_url, messages)
    account = watched.account(journal, Published(messages))
    # The lines come first; a handler has an event only after all before it.
    wait_until(lambda: watched.clock() > began + 4 * WATCHDOG, what="the handlers' work", interval=0.5)
    watched.wait_until_consuming("1")

    assert killed_by_watchdog(watched, journal.since) == 0
    assert_guarantee(account)
