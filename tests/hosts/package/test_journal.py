"""The journal has every line whole, and finds them by priority and by field."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime

from ha_monitor.outputs.line import MAX_LINE
from tests.support.hosts_events import failures, fresh_copies, fresh_event, message
from tests.support.hosts_package import CONFIGURATION, DEFAULT, Journal, Site
from tests.support.ledger import Published, assert_guarantee, is_event
from tests.support.measured import Measured
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import publish

BURST = 50_000


def announced(site: Site) -> Journal:
    """The journal of a copy of the recording, all of whose events are announced."""
    journal = site.journal()
    publish(site.services.broker_url, messages := list(fresh_copies(1)), rate=1500)
    assert_guarantee(site.account(journal, Published(messages)))
    return journal


def through_jq(site: Site, journal: Journal, options: str) -> list[str]:
    """What jq makes of the journal; it ends with an error at the first thing that is no JSON."""
    script = f"journalctl -q -o cat {journal.since} {options} | jq -r .event"
    return site.host.run("bash -s", stdin=f"set -o pipefail; {script}").stdout.splitlines()


def assert_whole(site: Site, journal: Journal, options: str) -> list[str]:
    """jq finds all lines that were there before it looked, and none that is not; returns their events."""
    before = len(journal.read())
    found = through_jq(site, journal, options)
    # Instances go on writing, such as who leads now.
    assert found == [line["event"] for line in journal.read()][: len(found)]
    assert len(found) >= before > 0
    return found


def test_errors_are_found_by_priority(site: Site) -> None:
    """Given successes and failures, `journalctl -p err` shows the failures, all of them and nothing else."""
    journal = announced(site)

    found = [json.loads(text) for text in journal.query("-p err", "-u 'ha-monitor@*'")]

    failed = [line for line in journal.lines if line["level"] == "error"]
    assert len(found) == len(failed) > 0
    assert {line["event_id"] for line in found} == {line["event_id"] for line in failed}
    assert {line["event"] for line in found} == {"task-failed"}
    warnings = journal.query("-p warning..warning", "-u 'ha-monitor@*'")
    assert {json.loads(text)["level"] for text in warnings} == {"warning"}


BUSY_JOURNALD = """
pkill -STOP -x systemd-journal
trap 'pkill -CONT -x systemd-journal' EXIT
systemctl start --no-block ha-monitor@1
has_sent() {
    ss -xapH | awk -v pid="pid=$(systemctl show --value -p MainPID ha-monitor@1)," '
        $1 == "u_dgr" && $4 > 0 && index($0, pid) { found = 1 }
        END { exit !found }'
}
until has_sent || systemctl is-failed -q ha-monitor@1; do sleep 0.1; done
"""
"""journald has no time until an instance has sent a line that it has not read, or has ended."""


def test_the_reason_of_a_failed_start_is_found_by_unit(site: Site) -> None:
    """Given a mistake in the configuration, and a journald that has no time just then, the instance does not end before
    journald has looked up whose line it is: `journalctl -u` shows the reason."""
    site.host.run("systemctl stop ha-monitor@1")
    site.put(CONFIGURATION, DEFAULT + "spoilt = true\n")
    journal = site.journal()

    site.host.run("bash -s", stdin=BUSY_JOURNALD, timeout=90)
    wait_for_value(lambda: site.show("ActiveState", "1"), ["failed"], what="the end of the instance", interval=0.2)

    lines = [json.loads(text) for text in journal.query("-u ha-monitor@1", "HA_EVENT=configuration-invalid")]
    assert [line["reason"].split(";")[0] for line in lines] == [f"{CONFIGURATION}: store.spoilt: unknown key"]


def test_lines_are_found_by_task_and_by_event(site: Site) -> None:
    """Given many tasks, the fields lead to the lines of one task, of tasks of one name, and of one kind of event."""
    journal = announced(site)
    events = [line for line in journal.lines if is_event(line)]
    tasks = Counter(line["task_id"] for line in events if "task_id" in line)
    (task, count), *_ = tasks.most_common(1)
    name = next(line["task_name"] for line in events if line.get("task_id") == task)

    by_task = [json.loads(text) for text in journal.query(f"HA_TASK_ID={task}")]
    by_name = [json.loads(text) for text in journal.query(f"HA_TASK_NAME={name}")]
    by_event = [json.loads(text) for text in journal.query("HA_EVENT=task-retried")]

    assert count > 1
    assert [line["task_id"] for line in by_task] == [task] * count
    assert len(by_name) == sum(line.get("task_name") == name for line in events)
    assert {line["task_name"] for line in by_name} == {name}
    assert len(by_event) == sum(line["event"] == "task-retried" for line in events) > 0
    assert {line["event"] for line in by_event} == {"task-retried"}


def test_the_journal_is_clean_json_for_jq(site: Site) -> None:
    """Given work, `journalctl | jq` reads every line; with -t also those around a crash, of which systemd speaks."""
    journal = announced(site)
    assert_whole(site, journal, "-u 'ha-monitor@*'")

    site.signal("3", "ABRT")  # as the watchdog does: the stacks go to the journal
    wait_until(lambda: journal.said("instance-started", "3"), what="a restart", interval=0.25)
    assert "instance-started" in assert_whole(site, journal, "-t ha-monitor")
    assert journal.bad == []
    assert "Fatal Python error: Aborted" in "\n".join(journal.query("-u ha-monitor@3"))


def test_a_long_line_is_shortened_and_not_split(site: Site) -> None:
    """Given an event of 300 kB, the journal has one entry of at most 48 KiB, which is JSON and says what was cut."""
    journal = site.journal()
    long = message(fresh_event("task-custom", uuid="long", note={f"key{n}": "ü" * 100 for n in range(1500)}))
    name = message(fresh_event("task-received", uuid="long", name="tests.long", args="()", kwargs="{}"))

    publish(site.services.broker_url, [name, long])
    account = site.account(journal, Published([long]))

    assert_guarantee(account)
    (text,) = journal.query("HA_EVENT=task-custom")
    assert len(text.encode()) <= MAX_LINE
    line = json.loads(text)
    assert line["shortened"] == ["data"]
    assert line["task_id"] == "long"


def test_a_burst_of_failures_is_in_the_journal_line_by_line(both: list[Site], measured: Measured) -> None:
    """Given 50,000 failures at once, five times what journald takes by default, each has its line, at both sites."""
    for site in both:
        journal = site.journal()
        messages = list(failures(BURST))
        published = Published(messages)

        publish(site.services.broker_url, messages)
        account = site.account(journal, published, timeout=120)

        lines = [line for line in journal.lines if is_event(line)]
        assert_guarantee(account)
        assert account.announced == BURST
        assert "Suppressed" not in site.host.journal("systemd-journald")
        times = [datetime.fromisoformat(line["timestamp"]) for line in lines]
        seconds = (max(times) - min(times)).total_seconds()
        size = journal.bytes / len(journal.lines)
        rate = f"{BURST / seconds:.0f} lines/s of {size:.0f} bytes into the journal, {3 * BURST / seconds:.0f} events/s"
        measured(f"{site.name}: {BURST} failures", rate)
