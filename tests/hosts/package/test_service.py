"""Three instances of the package, started and stopped by systemd: they share the work, and come back by themselves."""

from __future__ import annotations

import json
import re
from collections import Counter

from tests.support.hosts_events import fresh_copies
from tests.support.hosts_package import NAMES, Site
from tests.support.ledger import assert_guarantee, is_event
from tests.support.measured import Measured
from tests.support.process import wait_for_value, wait_until
from tests.support.publishing import Load

MOST_EXPOSURE = 1.2
CONSUMING = re.compile(r"consuming from \S+: \d+ events/s, \d+ messages in the queue")


def test_three_instances_run_and_share_the_work(site: Site, measured: Measured) -> None:
    """Given load, each instance says in words what it does, is dealt at least half an even share of the messages, and
    no event is lost. RabbitMQ deals them in turn, but to none that has as many as it may have unacknowledged, so a slow
    one gets fewer. Who announces an event is chance: the one to which the last piece of its task came."""
    journal = site.journal()
    before = messages(site)

    sent = list(fresh_copies(3))
    load = Load(site.services.broker_url, sent, rate=800)
    busy = wait_until(
        lambda: [text for text in site.show("StatusText") if ": 0 events/s" not in text], what="work", interval=0.25
    )
    published = load.finish()
    account = site.account(journal, published)

    assert all(CONSUMING.fullmatch(text) for text in busy), busy
    assert_guarantee(account)
    # An instance tells its numbers at its next tick.
    wait_until(lambda: (messages(site) - before).total() >= len(sent), 30, "the counts of all messages", 0.5)
    dealt = messages(site) - before
    lines = Counter(line["instance"] for line in journal.lines if is_event(line))
    for what, shares in (("messages", dealt), ("lines", lines)):
        percent = " / ".join(f"{shares[name] / shares.total():.0%}" for name in NAMES)
        measured(f"{site.name}: shares of {shares.total()} {what}", percent)
    assert min(dealt[name] for name in NAMES) >= len(sent) / len(NAMES) / 2, dealt
    assert all(lines[name] for name in NAMES), lines
    memory = max(int(value) for value in site.show("MemoryCurrent"))
    measured(f"{site.name}: memory of the largest instance", f"{memory / 1e6:.0f} MB")


def test_a_killed_instance_is_back_at_once_and_nothing_is_lost(site: Site, measured: Measured) -> None:
    """Given load, SIGKILL to an instance, three times, costs no event, and little more time than a start by hand."""
    journal = site.journal()
    before = int(site.show("NRestarts", "2")[0])
    load = Load(site.services.broker_url, fresh_copies(4), rate=600)
    wait_until(lambda: len(journal.read()) > 200, what="lines", interval=0.25)

    took, by_hand = [], []
    for _ in range(3):
        killed = site.signal("2", "KILL")
        wait_until(lambda: site.became_active("2") > killed, what="a restart", interval=0.25)  # noqa: B023
        took.append(site.became_active("2") - killed)
        # Beside it, how long a start takes on this machine at this time.
        site.host.run("systemctl stop ha-monitor@3")
        began = site.clock()
        site.host.run("systemctl start ha-monitor@3")
        by_hand.append(site.became_active("3") - began)
    account = site.account(journal, load.finish())

    times = " / ".join(f"{seconds:.2f}" for seconds in took)
    starts = " / ".join(f"{seconds:.2f}" for seconds in by_hand)
    measured(f"{site.name}: SIGKILL until active again", f"{times} s, lost {account.lost}, twice {account.doubled}")
    measured(f"{site.name}: a start by hand beside it", f"{starts} s")
    assert site.show("RestartUSec", "2") == ["200ms"]
    assert min(took) < 0.2 + 2 * max(by_hand)
    assert int(site.show("NRestarts", "2")[0]) == before + 3
    assert_guarantee(account, may_double=True)
    # The queue is consumed by all three again.
    site.wait_until_consuming()


def messages(site: Site) -> Counter[str]:
    """How many messages each instance has had, as `ha-monitor status` says."""
    shown = json.loads(site.host.run("ha-monitor status --json").stdout)["instances"]
    return Counter({one["instance"]: one["stats"]["messages"] for one in shown if one["alive"]})


def test_the_target_stops_all_and_starts_those_that_are_enabled(site: Site) -> None:
    """Given two of three instances enabled, the target stands for them; stopping it stops the third, too."""
    site.host.run("systemctl enable ha-monitor@1 ha-monitor@2")
    journal = site.journal()

    site.host.run("systemctl stop ha-monitor.target")
    wait_for_value(lambda: site.show("ActiveState"), ["inactive"] * 3, what="the end of all instances", interval=0.25)

    assert {line["instance"] for line in journal.said("instance-stopped")} == set(NAMES)
    assert site.show("Result") == ["success"] * 3

    site.host.run("systemctl start ha-monitor.target")
    site.wait_until_consuming("1", "2")
    assert site.show("ActiveState") == ["active", "active", "inactive"]
    site.start("3")
    site.host.run("systemctl -q disable ha-monitor@1 ha-monitor@2")


def test_a_stop_finishes_what_is_in_hand(site: Site, measured: Measured) -> None:
    """Given load, a stop of one instance takes a moment, and nothing is lost or said twice."""
    journal = site.journal()
    load = Load(site.services.broker_url, fresh_copies(2), rate=600)
    wait_until(lambda: len(journal.read()) > 100, what="lines", interval=0.25)

    began = site.clock()
    site.host.run("systemctl stop ha-monitor@3")
    measured(f"{site.name}: an orderly stop under load", f"{site.clock() - began:.1f} s")
    account = site.account(journal, load.finish())

    assert_guarantee(account)
    assert site.show("Result", "3") == ["success"]
    site.start("3")


def test_the_sandbox_is_tight_and_enforced(site: Site, measured: Measured) -> None:
    """Given instances that work, as the tests before have shown, they can do hardly anything else."""
    said = site.host.run("systemd-analyze security --no-pager ha-monitor@1").stdout
    exposure = float(re.findall(r"exposure level for ha-monitor@1\.service: ([\d.]+)", said)[0])
    measured(f"{site.name}: exposure by systemd-analyze security", f"{exposure}")
    assert exposure <= MOST_EXPOSURE

    (pid,) = site.show("MainPID", "1")
    status = site.host.run(f"cat /proc/{pid}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert [fields[name] for name in ("CapEff", "CapBnd", "CapAmb")] == ["0" * 16] * 3
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert site.host.run(f"ps -o user= -p {pid}").stdout.strip() == "ha-monitor"
    # Nothing can be written where the service lives, not even by root of its name space.
    inside = f"nsenter --target {pid} --mount --wdns=/ sh -c"
    for path in ("/etc/ha-monitor/x", "/usr/x", "/var/lib/x", "/home/x"):
        assert "Read-only" in site.host.run(f"{inside} 'echo >{path}'", check=False).stderr, path


def test_after_a_reboot_the_enabled_instances_come_back(site: Site, measured: Measured) -> None:
    """Given two enabled instances and a third that was only started, a reboot brings the two back, and no event is
    lost, not even of those that were sent meanwhile."""
    site.host.run("systemctl enable ha-monitor@1 ha-monitor@3")
    journal = site.journal()
    load = Load(site.services.broker_url, fresh_copies(3), rate=500)
    wait_until(lambda: len(journal.read()) > 100, what="lines", interval=0.25)

    began = site.clock()
    site.host.reboot()
    site.wait_until_consuming("1", "3")
    measured(f"{site.name}: reboot until the instances consume", f"{site.clock() - began:.1f} s")
    account = site.account(journal, load.finish())

    assert site.show("ActiveState") == ["active", "inactive", "active"]
    assert_guarantee(account)
    site.start("2")
    site.host.run("systemctl -q disable ha-monitor@1 ha-monitor@3")
