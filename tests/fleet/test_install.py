"""Bare hosts become a fleet, which a second run leaves alone and a hand cannot change for long."""

from __future__ import annotations

from ha_monitor.version import __version__
from tests.fleet.bed import ALL, CONFIGURATION, FleetBed, fingerprint, ports, run, starts

CREDENTIALS = "/etc/ha-monitor/credentials"
VAULT_PASSWORD = "a-horse-and-its-staple"


def test_bare_hosts_become_a_fleet_that_consumes(fleet: FleetBed, table: list[str]) -> None:
    """Given bare hosts, and the two URLs encrypted, a dry run says that each would be installed and touches none; the
    run, on one host with the oldest Ansible, installs the packages from files, all instances consume, only root can
    read the secrets, and no instance listens."""
    inventory = fleet.ansible.encrypt(VAULT_PASSWORD, "ha_monitor_broker_url", "ha_monitor_store_url")
    assert fleet.services.password not in inventory
    foreseen = fleet.ansible.play(check=True, limit="vm1,vm3", vault_password=VAULT_PASSWORD).assert_good()
    assert set(foreseen.changed) == {"vm1", "vm3"}
    assert all(foreseen.changed.values())
    assert all(host.console("ls /etc/ha-monitor").returncode for host in fleet.hosts)

    fleet.ansible.play(limit="vm1", oldest=True, vault_password=VAULT_PASSWORD).assert_good()
    assert run(fleet.host("vm1"), f"cat {CREDENTIALS}/broker_url") == f"{fleet.services.broker_url}\n"
    # As verbose as an administrator in need may ask for: the secrets are in none of it.
    installed = fleet.ansible.play("site.yml", "-vvv").assert_good()

    assert installed.changed["vm1"] == 0
    assert fleet.names() == ALL
    assert {one.version for one in fleet.consuming()} == {__version__}
    for host in fleet.hosts:
        found = run(host, f"stat -c '%a %U %n' {CREDENTIALS} {CREDENTIALS}/*_url")
        assert found.splitlines() == [
            f"700 root {CREDENTIALS}",
            f"600 root {CREDENTIALS}/broker_url",
            f"600 root {CREDENTIALS}/redbeat_url",
            f"600 root {CREDENTIALS}/result_backend_url",
            f"600 root {CREDENTIALS}/store_url",
        ]
        assert ports(host) == set()
        assert fleet.services.password not in run(host, "grep -rs . /etc/systemd /etc/ha-monitor/*.toml; journalctl -q")
    assert "Write the secrets" in installed.output
    assert fleet.services.password not in foreseen.output + installed.output
    table.append(f"fresh install on two hosts: {installed.seconds:.0f} s")
    fleet.begin_load()


def test_a_change_by_hand_is_foreseen_by_check_and_put_back_and_nothing_else_is_touched(fleet: FleetBed) -> None:
    """Given a configuration edited by hand and a disabled instance on one host, a dry run names exactly what the next
    run then does: it puts both back, with one restart. On another host it changes nothing."""
    vm1 = fleet.host("vm1")
    before, original = starts(fleet), fingerprint(vm1)
    run(vm1, f"echo 'node_id = \"other\"' >{CONFIGURATION}; systemctl disable -q ha-monitor@1")
    changed = fingerprint(vm1)

    foreseen = fleet.ansible.play(check=True, limit="vm1,vm2").assert_good()

    assert fingerprint(vm1) == changed
    assert starts(fleet) == before
    assert '-node_id = "other"' in foreseen.output

    with fleet.watch.over("second run; a change by hand put back") as row:
        done = fleet.ansible.play(limit="vm1,vm2").assert_good()

    # The configuration, the enabling, and the one restart.
    assert foreseen.changed == done.changed == {"vm1": 3, "vm2": 0}
    assert fingerprint(vm1) == original
    assert run(vm1, "systemctl is-enabled ha-monitor@1").strip() == "enabled"
    assert {host for host, one in starts(fleet).items() if one != before[host]} == {"vm1"}
    row.assert_guarantee()
