"""A fleet from bare hosts to nothing, by Ansible, under a steady load. The tests follow each other on one fleet."""

from __future__ import annotations

import time

import pytest

from ha_monitor.version import __version__
from tests.fleet.bed import FleetBed
from tests.fleet.packages import HIGHER_VERSION, wheel, wheelhouse
from tests.support.hosts import Host
from tests.support.process import wait_until

ALL = {("vm1", "1"), ("vm2", "1"), ("vm3", "1")}
NINE = {(host, name) for host in ("vm1", "vm2", "vm3") for name in "123"}
UNCHANGED = {"vm1": 0, "vm2": 0, "vm3": 0}
CONFIGURATION = "/etc/ha-monitor/ha-monitor.toml"


def fingerprint(host: Host) -> str:
    """Checksums of everything that an instance on a host depends on."""
    return host.run(
        "find /etc/ha-monitor /etc/systemd/system/ha-monitor@.service.d -type f -exec sha256sum {} + | sort;"
        " dpkg-query -W ha-monitor"
    ).stdout


def starts(fleet: FleetBed) -> dict[str, str]:
    """When each instance was started, by host."""
    command = "systemctl show --property=Id,MainPID,ExecMainStartTimestampMonotonic 'ha-monitor@*'"
    return {host.name: host.run(command).stdout for host in fleet.hosts}


def test_bare_hosts_become_a_fleet_that_consumes(fleet: FleetBed, table: list[str]) -> None:
    foreseen = fleet.ansible.play(check=True).assert_good()
    assert all(foreseen.changed.values())
    assert all(host.run("ls /etc/ha-monitor", check=False).returncode for host in fleet.hosts)

    installed = fleet.ansible.play().assert_good()

    assert fleet.names() == ALL
    assert {one.version for one in fleet.consuming()} == {__version__}
    assert all(host.run("stat -c '%a %U' /etc/ha-monitor/credentials/*_url").stdout.split() == ["600", "root"] * 2
               for host in fleet.hosts)  # fmt: skip
    assert fleet.services.password not in installed.output
    table.append(f"fresh install on three hosts: {installed.seconds:.0f} s")
    fleet.begin_load()


def test_a_second_run_changes_nothing_and_restarts_nothing(fleet: FleetBed) -> None:
    before = starts(fleet)

    with fleet.watch.over("second run") as row:
        again = fleet.ansible.play().assert_good()

    assert again.changed == UNCHANGED
    assert starts(fleet) == before
    row.assert_guarantee()


def test_a_change_by_hand_is_foreseen_by_check_and_put_back(fleet: FleetBed) -> None:
    vm1 = fleet.host("vm1")
    before, original = starts(fleet), fingerprint(vm1)
    vm1.run(f"echo 'node_id = \"other\"' >{CONFIGURATION}; systemctl disable -q ha-monitor@1")
    changed = fingerprint(vm1)

    foreseen = fleet.ansible.play(check=True).assert_good()

    assert fingerprint(vm1) == changed
    assert starts(fleet) == before
    assert '-node_id = "other"' in foreseen.output

    with fleet.watch.over("change by hand put back") as row:
        done = fleet.ansible.play().assert_good()

    assert done.changed.keys() == foreseen.changed.keys()
    assert {host: bool(count) for host, count in done.changed.items()} == {"vm1": True, "vm2": False, "vm3": False}
    # The configuration, the enabling, and the one restart.
    assert foreseen.changed["vm1"] == done.changed["vm1"] == 3
    assert fingerprint(vm1) == original
    assert vm1.run("systemctl is-enabled ha-monitor@1").stdout.strip() == "enabled"
    row.assert_guarantee()


def test_one_instance_a_host_becomes_three(fleet: FleetBed) -> None:
    before = fleet.consuming()

    with fleet.watch.over("scale from 1 to 3 instances a host") as row:
        fleet.ansible.play(ha_monitor_instances=3).assert_good()

    assert fleet.names() == NINE
    assert before < fleet.consuming(), "an instance that was there was restarted"
    row.assert_guarantee()


def test_nine_instances_have_even_shares(fleet: FleetBed) -> None:
    before = counters(fleet)

    # RabbitMQ deals out messages, of 1 to 24 events each: only of many are the instances' sums alike.
    with fleet.watch.over("burst of 12,000 tasks over 9 instances") as row:
        fleet.load.burst(12_000)

    after = counters(fleet)
    assert after.keys() == before.keys() == NINE
    messages, events = ({one: after[one][number] - before[one][number] for one in NINE} for number in range(2))
    row.note = f"shares of messages within {spread(messages):.1%}, of events within {spread(events):.1%}"
    assert spread(events) <= 0.10, (messages, events)
    row.assert_guarantee()


def counters(fleet: FleetBed) -> dict[tuple[str, str], tuple[int, int]]:
    """Messages and events that each living instance has had."""
    return {
        (one["host"], one["instance"]): (one["stats"]["messages"], one["events"])
        for one in fleet.status()["instances"]
        if one["alive"]
    }


def spread(counts: dict[tuple[str, str], int]) -> float:
    """The largest distance of a count from the mean of all, as a part of the mean."""
    mean = sum(counts.values()) / len(counts)
    return max(abs(count - mean) for count in counts.values()) / mean


def test_a_rolling_upgrade_restarts_one_after_the_other(fleet: FleetBed) -> None:
    with fleet.watch.over("rolling upgrade, 9 instances") as row:
        fleet.ansible.play(
            ha_monitor_instances=3, ha_monitor_version=HIGHER_VERSION, ha_monitor_source=fleet.higher
        ).assert_good()

    assert fleet.names() == NINE
    assert {one.version for one in fleet.consuming()} == {HIGHER_VERSION}
    row.assert_guarantee()


def test_a_rollback_is_an_upgrade_to_the_lower_version(fleet: FleetBed) -> None:
    with fleet.watch.over("rollback, 9 instances") as row:
        fleet.ansible.play(ha_monitor_instances=3).assert_good()

    assert fleet.names() == NINE
    assert {one.version for one in fleet.consuming()} == {__version__}
    row.assert_guarantee()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"log": {"levle": "debug"}}, "log.levle: unknown key", id="unknown key"),
        pytest.param({"queue": {"message_ttl": 3600}}, "x-message-ttl", id="arguments that the queue does not have"),
    ],
)
def test_a_wrong_configuration_touches_nothing(fleet: FleetBed, settings: dict[str, object], said: str) -> None:
    before, files = starts(fleet), [fingerprint(host) for host in fleet.hosts]

    with fleet.watch.over(f"wrong configuration refused: {said}") as row:
        refused = fleet.ansible.play(ha_monitor_instances=3, ha_monitor_settings=settings)

    assert refused.status != 0
    assert said in refused.output
    assert fleet.services.password not in refused.output
    assert refused.changed == UNCHANGED
    assert [fingerprint(host) for host in fleet.hosts] == files
    assert starts(fleet) == before
    row.assert_guarantee()


def test_a_rollout_stops_at_the_first_instance_that_does_not_consume(fleet: FleetBed) -> None:
    before = fleet.consuming()

    with fleet.watch.over("failing rollout stopped, and repaired") as row:
        # The unit of the first instance gets a variable that the program refuses; no check can foresee it.
        stopped = fleet.ansible.play(
            ha_monitor_instances=3,
            ha_monitor_health_timeout=5,
            ha_monitor_service_settings={"Environment": "HA_MONITOR_NONSENSE=1"},
        )
        survived = fleet.consuming()
        repaired = fleet.ansible.play(ha_monitor_instances=3).assert_good()

    assert stopped.failed == {"vm1"}
    assert "HA_MONITOR_NONSENSE: unknown variable" in stopped.output, "the journal's last lines are not in the message"
    assert before - survived == {one for one in before if (one.host, one.name) == ("vm1", "1")}
    assert fleet.names() == NINE
    assert {one for one in fleet.consuming() if one.host != "vm1"} == {one for one in before if one.host != "vm1"}
    assert repaired.changed["vm2"] == repaired.changed["vm3"] == 0
    row.assert_guarantee()


def test_three_instances_a_host_become_one(fleet: FleetBed) -> None:
    before = fleet.consuming()

    with fleet.watch.over("scale from 3 to 1 instances a host") as row:
        fleet.ansible.play().assert_good()

    assert fleet.names() == ALL
    assert fleet.consuming() < before, "an instance that stays was restarted"
    assert all(host.run("ls /etc/ha-monitor/instances").stdout == "1.toml\n" for host in fleet.hosts)
    row.assert_guarantee()


def test_a_host_loses_its_power_and_comes_back(fleet: FleetBed) -> None:
    vm1 = fleet.host("vm1")

    with fleet.watch.over("power cut of one host, and back") as row:
        vm1.power_cut()
        wait_until(lambda: fleet.names() == ALL - {("vm1", "1")}, 60, "the end of the dead one's lease", interval=0.5)
        time.sleep(5)  # the others do all the work meanwhile
        vm1.start()
        fleet.wait_until_consuming(3)

    assert fleet.names() == ALL
    row.assert_guarantee(may_double=True)


def test_a_rollout_over_a_cut_host_ends_soon_and_harms_nobody(fleet: FleetBed) -> None:
    before = fleet.consuming()
    fleet.host("vm2").partition()
    try:
        ended = fleet.ansible.play(ha_monitor_instances=2)
    finally:
        fleet.host("vm2").heal()

    assert ended.status != 0
    assert ended.failed == {"vm2"}
    assert ended.seconds < 120
    fleet.wait_until_consuming(3)
    others = {one for one in before if one.host != "vm2"}
    assert {one for one in fleet.consuming() if one.host != "vm2"} == others


def test_a_host_is_cut_off_for_30_seconds(fleet: FleetBed) -> None:
    vm1 = fleet.host("vm1")

    with fleet.watch.over("one host cut off for 30 s, and healed") as row:
        vm1.partition()
        time.sleep(30)
        vm1.heal()
        fleet.wait_until_consuming(3)

    assert fleet.names() == ALL
    row.assert_guarantee(may_double=True)


def test_the_host_of_rabbitmq_and_redis_restarts(fleet: FleetBed) -> None:
    before = {(one.host, one.name, one.pid) for one in fleet.consuming()}

    with fleet.watch.over("restart of the host with RabbitMQ and Redis") as row:
        fleet.services.host.reboot()
        fleet.wait_until_consuming(3, 180)
        sent = fleet.load.sent
        wait_until(lambda: fleet.load.sent > sent + 100, 60, "tasks being sent again")

    assert {(one.host, one.name, one.pid) for one in fleet.consuming()} == before, "an instance was restarted"
    row.assert_guarantee()


def test_a_new_queue_takes_over_without_loss_and_without_doubles(fleet: FleetBed) -> None:
    new = {"queue": {"prefix": "celeryev.v2", "message_ttl": 3600}}

    with fleet.watch.over("other arguments, by a new queue") as row:
        fleet.ansible.play(ha_monitor_settings=new).assert_good()

    listed = fleet.services.host.run("rabbitmqctl -q list_queues name consumers").stdout
    queues = dict(line.split("\t") for line in listed.splitlines())
    assert queues["celeryev.v2.shop"] == "3"
    assert queues["celeryev.shop"] == "0"
    assert fleet.names() == ALL
    row.assert_guarantee()
    fleet.services.host.run("rabbitmqctl -q delete_queue celeryev.shop")


def test_one_host_changes_from_the_package_to_pip(fleet: FleetBed) -> None:
    new = {"queue": {"prefix": "celeryev.v2", "message_ttl": 3600}}
    vm2 = fleet.host("vm2")
    vm2.push(wheelhouse(fleet.folder / "wheels"), "/var/tmp/wheels")
    by_pip = {
        "ha_monitor_install_method": "pip",
        "ha_monitor_source": str(wheel()),
        "ha_monitor_pip_extra_args": ["--no-index", "--find-links=/var/tmp/wheels"],
        "ha_monitor_settings": new,
    }
    refused = fleet.ansible.play(limit="vm2", **by_pip)
    assert refused.status != 0
    assert "uninstall.yml" in refused.output

    with fleet.watch.over("one host from the package to pip") as row:
        fleet.ansible.play("uninstall.yml", limit="vm2").assert_good()
        fleet.ansible.play(limit="vm2", **by_pip).assert_good()

    again = fleet.ansible.play(limit="vm2", **by_pip).assert_good()
    assert again.changed == {"vm2": 0}
    assert fleet.names() == ALL
    running = vm2.run("readlink -f /proc/$(systemctl show --property=MainPID --value ha-monitor@1)/exe; "
                      "systemctl show --property=ExecStart ha-monitor@1").stdout  # fmt: skip
    assert f"/opt/ha-monitor/{__version__}/bin/ha-monitor" in running
    row.assert_guarantee()


def test_uninstalling_leaves_nothing(fleet: FleetBed) -> None:
    fleet.load.pause()

    fleet.ansible.play("uninstall.yml").assert_good()
    again = fleet.ansible.play("uninstall.yml").assert_good()

    assert again.changed == UNCHANGED
    for host in fleet.hosts:
        left = host.run(
            "find / -xdev -path /proc -prune -o -path /var/tmp -prune -o -path /var/log -prune"
            " -o -iname '*ha-monitor*' -print; getent passwd ha-monitor; systemctl list-units --all --plain"
            " --no-legend 'ha-monitor*'; pgrep -f '[h]a[-_]monitor run'",
            check=False,
        ).stdout
        assert left == "", f"{host.name}: {left}"
