"""Hosts die, are cut off and come back."""

from __future__ import annotations

import time

from tests.fleet.bed import ALL, ASKED_EACH, FleetBed
from tests.support.machine import Timed
from tests.support.process import wait_for_value, wait_until


def test_a_host_loses_its_power_and_comes_back(fleet: FleetBed) -> None:
    """Given a power cut of one host, the others announce everything, and its instance comes back with it."""
    vm1 = fleet.host("vm1")

    with fleet.watch.over("power cut of one host, and back") as row:
        vm1.power_cut()
        wait_for_value(fleet.names, ALL - {("vm1", "1")}, 60, "the end of the dead one's lease", ASKED_EACH)
        sent = fleet.load.sent
        wait_until(lambda: fleet.load.sent > sent + 30, 60, "tasks that only the others are there for")
        vm1.start()
        fleet.wait_until_consuming(ALL)

    row.assert_guarantee(may_double=True)


def test_a_host_is_cut_off_for_30_seconds_and_a_rollout_over_it_ends_soon_and_harms_nobody(fleet: FleetBed) -> None:
    """Given a host that is cut off for half a minute, the others announce everything, and it carries on when it is
    back. A rollout meanwhile ends by itself, and touches nobody."""
    before = fleet.consuming()
    vm3 = fleet.host("vm3")

    with fleet.watch.over("one host cut off for 30 s, and healed") as row:
        began = time.monotonic()
        vm3.partition()
        with Timed() as timed:
            ended = fleet.ansible.play(ha_monitor_instances=2)
        time.sleep(max(30 - (time.monotonic() - began), 0))
        others = fleet.consuming()
        vm3.heal()
        fleet.wait_until_consuming(ALL)

    assert ended.status != 0
    assert ended.failed == {"vm3"}
    assert sum(ended.changed.values()) == 0
    assert timed.undisturbed < 120, timed
    assert others == {one for one in before if one.host != "vm3"}
    assert fleet.consuming() == before, "an instance was restarted"
    row.assert_guarantee(may_double=True)


def test_the_host_of_rabbitmq_and_redis_restarts(fleet: FleetBed) -> None:
    """Given a restart of the host with broker and store, every instance waits for them and carries on."""
    before = {(one.host, one.name, one.pid) for one in fleet.consuming()}

    with fleet.watch.over("restart of the host with RabbitMQ and Redis") as row:
        fleet.services.host.reboot()
        fleet.wait_until_consuming(ALL, 180)
        fleet.watch.wait_for_runs(30)

    assert {(one.host, one.name, one.pid) for one in fleet.consuming()} == before, "an instance was restarted"
    row.assert_guarantee()
