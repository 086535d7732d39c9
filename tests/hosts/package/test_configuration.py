"""The configuration on a host: files, overlays, secrets, reload, and what happens when it is wrong."""

from __future__ import annotations

import json

import pytest

from ha_monitor.config.schema import LogLevel
from tests.support.hosts import CommandFailed
from tests.support.hosts_events import fresh_copies
from tests.support.hosts_package import CONFIGURATION, DEFAULT, NAMES, Journal, Site
from tests.support.ledger import Published, is_event, violations
from tests.support.process import wait_for_value
from tests.support.recording import publish

ONLY_ERRORS = DEFAULT + '[log]\nlevel = "error"\n'
EVERYWHERE = r"""
import pathlib, sys
secret = sys.stdin.read().strip()
own = str(pathlib.Path("/proc/self").resolve())
for name in ("environ", "cmdline"):
    for path in pathlib.Path("/proc").glob("[0-9]*/" + name):
        try:
            if secret.encode() in path.read_bytes() and not str(path).startswith(own):
                print(path)
        except OSError:
            pass
"""


def test_a_wrong_configuration_ends_with_78_and_one_clear_line(site: Site) -> None:
    """Given a key that does not exist, the instance says where, fails at once, and is not started again."""
    site.put(CONFIGURATION.parent / "instances/wrong.toml", "[log]\ncolour = true\n")
    journal = site.journal()

    with pytest.raises(CommandFailed):
        site.host.run("systemctl start ha-monitor@wrong")

    # "failed" is an end: an instance that is going to be started again is "activating".
    assert site.show("ActiveState", "wrong") == ["failed"]
    assert site.show("ExecMainStatus", "wrong") == ["78"]
    assert site.show("NRestarts", "wrong") == ["0"]
    lines = [json.loads(text) for text in journal.query("-t ha-monitor", "-u ha-monitor@wrong")]
    assert [(line["event"], line["level"]) for line in lines] == [("configuration-invalid", "error")]
    assert lines[0]["reason"].startswith("/etc/ha-monitor/instances/wrong.toml: log.colour: unknown key; expected one")
    assert list(violations(lines)) == []
    site.host.run("systemctl reset-failed")


def test_the_same_mistake_is_found_by_check(site: Site) -> None:
    """Given a wrong file, an administrator who asks first gets the same words and status; the secrets are found."""
    site.put(CONFIGURATION.parent / "instances/wrong.toml", "[log]\ncolour = true\n")

    wrong = site.host.run("ha-monitor check --instance wrong", check=False)
    right = site.host.run("ha-monitor check --online", check=False)

    assert wrong.returncode == 78
    assert "/etc/ha-monitor/instances/wrong.toml: log.colour: unknown key" in wrong.stdout + wrong.stderr
    # Its findings may have hints, such as that no worker answers; but broker and store must be in order.
    assert site.services.host.address in right.stdout
    assert site.services.password not in right.stdout + right.stderr


def test_an_overlay_changes_one_instance_only(site: Site) -> None:
    """Given an overlay with another level for instance 3, the other two say what they always say."""
    site.put(CONFIGURATION.parent / "instances/3.toml", '[log]\nlevel = "error"\n')
    site.restart("3")
    journal = site.journal()

    publish(site.services.broker_url, messages := list(fresh_copies(1)), rate=1000)
    account = site.account(journal, Published(messages, LogLevel.ERROR))

    assert account.lost == 0, account
    levels = {name: {line["level"] for line in journal.lines if line["instance"] == name} for name in NAMES}
    assert levels["3"] == {"error"}
    assert levels["1"] >= {"error", "info"} and levels["2"] >= {"error", "info"}


def test_a_reload_changes_the_level_and_a_wrong_file_keeps_the_old_one(site: Site) -> None:
    """Given running instances, `systemctl reload` applies what can change live; a mistake does no harm."""
    pids = site.show("MainPID")
    journal = site.journal()

    site.put(CONFIGURATION, ONLY_ERRORS)
    site.host.run("systemctl reload 'ha-monitor@*'")
    wait_for_value(lambda: who_said(journal, "reloaded"), NAMES, what="the reload by all three", interval=0.25)
    site.put(CONFIGURATION, "[log]\nlevel = shout\n")
    site.host.run("systemctl reload 'ha-monitor@*'")
    wait_for_value(lambda: who_said(journal, "reload-failed"), NAMES, what="the refusal by all three", interval=0.25)
    begun = len(journal.read())
    publish(site.services.broker_url, messages := list(fresh_copies(1)), rate=1000)
    account = site.account(journal, Published(messages, LogLevel.ERROR))

    assert account.lost == 0, account
    assert account.bad == []
    assert {line["level"] for line in journal.lines[begun:] if is_event(line)} == {"error"}
    assert all("ha-monitor.toml: not valid TOML" in line["reason"] for line in journal.said("reload-failed"))

    site.put(CONFIGURATION, DEFAULT)
    site.host.run("systemctl reload 'ha-monitor@*'")
    wait_for_value(
        lambda: who_said(journal, "reloaded", log_level="info"), NAMES, what="a reload of all three", interval=0.25
    )
    publish(site.services.broker_url, messages := list(fresh_copies(1)), rate=1000)
    after = site.journal()
    after.lines = journal.lines
    assert site.account(journal, Published(messages)).lost == 0
    assert site.show("MainPID") == pids, "a reload is no restart"
    assert site.show("ActiveState") == ["active"] * 3


def who_said(journal: Journal, event: str, **fields: str) -> tuple[str, ...]:
    """The instances with a line of this event and these fields so far."""
    found = [line for line in journal.said(event) if fields.items() <= line.items()]
    return tuple(sorted({line["instance"] for line in found}))


def test_secrets_are_where_only_the_service_can_read_them(site: Site) -> None:
    """Given URLs with passwords in the credentials' files, they are in no environment, command line, property or
    line of the journal, and no other user can read them."""
    password = site.services.password
    host = site.host

    for name in NAMES:
        assert password not in host.run(f"systemctl show ha-monitor@{name}; systemctl cat ha-monitor@{name}").stdout
        assert password not in host.run(f"systemctl status ha-monitor@{name}").stdout
    assert host.run(f"python3 -c '{EVERYWHERE}'", stdin=password).stdout == ""
    assert host.run("journalctl -q -o export | grep -c -F -f /dev/stdin", check=False, stdin=password).stdout == "0\n"
    assert set(host.run("stat -c '%a %U:%G' /etc/ha-monitor/credentials/*").stdout.splitlines()) == {"600 root:root"}
    for path in ("/etc/ha-monitor/credentials/broker_url", "/run/credentials/ha-monitor@1.service/broker_url"):
        assert password in host.run(f"cat {path}").stdout
        assert "Permission denied" in host.run(f"cat {path}", user="admin", check=False).stderr
    # The service has them all the same: it consumes.
    site.wait_until_consuming()


def test_status_shows_all_instances_to_root(site: Site) -> None:
    """Given the secrets' files, `ha-monitor status` needs no more to find the store and all instances."""
    shown = json.loads(site.host.run("ha-monitor status --json").stdout)

    instances = [entry for entry in shown["instances"] if entry["host"] == site.host.name]
    assert sorted(entry["instance"] for entry in instances if entry.get("alive", True)) == list(NAMES)
