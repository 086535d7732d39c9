"""Upgrade, removal and purge of the package on a host at work."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.hosts_events import fresh_copies
from tests.support.hosts_package import CONFIGURATION, DEFAULT, NAMES, Site, newer_package
from tests.support.ledger import assert_guarantee
from tests.support.measured import Measured
from tests.support.process import wait_until
from tests.support.publishing import Load

# What dpkg, apt, systemd and the kernel write on their own, whatever package comes or goes.
OTHERS = re.compile(
    r"/(?:var/(?:log|cache|lib/(?:dpkg|apt|systemd|polkit-1))|run|(?:var/)?tmp|root|proc|sys|dev)(?:/|$)|/etc/\S+-$"
)


def test_an_upgrade_restarts_what_runs_one_after_the_other(site: Site, tmp_path: Path, measured: Measured) -> None:
    """Given two running instances, a stopped one and an edited configuration, the next version comes without a
    question; the two restart in turn, the third stays stopped, the configuration stays, no event is lost."""
    edited = DEFAULT + "# edited by hand\n"
    site.put(CONFIGURATION, edited)
    site.host.run("systemctl stop ha-monitor@2")
    package = newer_package(site.package, "99.1", tmp_path)
    journal = site.journal()
    load = Load(site.services.broker_url, fresh_copies(2), rate=200)
    wait_until(lambda: len(journal.read()) > 100, what="lines", interval=0.25)

    began = site.clock()
    site.install(package)
    measured(f"{site.name}: upgrade with two running instances", f"{site.clock() - began:.1f} s")
    account = site.account(journal, load.finish())
    site.wait_until_consuming("1", "3")

    assert site.show("ActiveState") == ["active", "inactive", "active"]
    assert all(int(value) > began * 1e6 for value in site.show("ActiveEnterTimestampMonotonic", "1", "3"))
    up, down = (
        site.show("ActiveEnterTimestampMonotonic", "1", "3"),
        site.show("InactiveEnterTimestampMonotonic", "1", "3"),
    )
    assert int(up[0]) <= int(down[1]) or int(up[1]) <= int(down[0]), "one was back before the other stopped"
    started = [(line["instance"], line["version"]) for line in journal.said("instance-started")]
    assert sorted(started) == [("1", "99.1"), ("3", "99.1")]
    assert site.host.run(f"cat {CONFIGURATION}").stdout == edited
    assert "next version" in site.host.run("head -1 /usr/share/ha-monitor/ha-monitor.toml").stdout
    assert site.services.password in site.host.run("cat /etc/ha-monitor/credentials/broker_url").stdout
    assert_guarantee(account)


def test_an_upgrade_stops_restarting_at_the_first_instance_that_does_not_come_back(site: Site, tmp_path: Path) -> None:
    """Given a configuration that was spoilt since the instances started, an upgrade restarts the first, which fails,
    and says so; the others carry on with what they had, and nothing is lost. Mended, all come back as the new one."""
    package = newer_package(site.package, "99.2", tmp_path)
    site.put(CONFIGURATION, DEFAULT + "spoilt = true\n")
    journal, before = site.journal(), site.show("MainPID")
    load = Load(site.services.broker_url, fresh_copies(2), rate=200)
    wait_until(lambda: len(journal.read()) > 100, what="lines", interval=0.25)

    said = site.install(package)
    account = site.account(journal, load.finish())

    assert "ha-monitor@1.service did not start again; the instances after it were not restarted." in said
    assert site.installed
    assert site.show("ActiveState") == ["failed", "active", "active"]
    assert site.show("MainPID", "2", "3") == before[1:]
    assert "store.spoilt: unknown key" in site.host.run("journalctl -q -o cat -u ha-monitor@1 -n 20").stdout
    assert_guarantee(account)

    site.put(CONFIGURATION, DEFAULT)
    site.restart()
    assert [line["version"] for line in journal.said("instance-started")] == ["99.2"] * 3


def test_a_removal_stops_all_and_a_purge_leaves_nothing_but_the_user(site: Site) -> None:
    """Given running and enabled instances, a removal stops them in order and keeps the configuration; after a purge
    the host has no file that it did not have before the first installation."""
    site.host.run("systemctl enable ha-monitor@1")
    site.put(CONFIGURATION.parent / "handlers/mine.py", "# an administrator's own\n")
    journal = site.journal()

    site.host.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y ha-monitor </dev/null", timeout=120)

    assert sorted(line["instance"] for line in journal.said("instance-stopped")) == list(NAMES)
    assert site.host.run("pgrep -u ha-monitor", check=False).stdout == ""
    assert site.host.run("systemctl list-units --plain --no-legend 'ha-monitor*'").stdout == ""
    assert site.host.run(f"cat {CONFIGURATION}").stdout == DEFAULT

    site.host.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y ha-monitor </dev/null", timeout=120)

    before = set(site.host.run("cat /root/before").stdout.splitlines())
    now = set(site.host.run("find / -xdev").stdout.splitlines())
    assert sorted(path for path in now - before if not OTHERS.match(path)) == []
    named = site.host.run("find / -xdev -name '*ha-monitor*' -not -path '/tmp/*' -not -path '/var/log/*'").stdout
    assert named == ""
    assert site.host.run("getent passwd ha-monitor").stdout.startswith("ha-monitor:")
    assert site.host.run("systemctl is-system-running").stdout == "running\n"
