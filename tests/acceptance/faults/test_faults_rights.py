"""Rights that are missing, and that are taken away: it is said which, and nothing is lost once they are granted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.acceptance.faults.conftest import FaultTable
from tests.support.instances import ROOT, Fleet, environment_of_commands, vhost_of
from tests.support.ledger import Line, assert_guarantee
from tests.support.machine import patient
from tests.support.process import wait_until
from tests.support.publishing import Load
from tests.support.recording import read_stream, replicate
from tests.support.releases import is_redis_6
from tests.support.rights import STORE_USER, Permissions, documented_permissions, for_redis_6, store_rules
from tests.support.services import PrivateRabbitMQ, PrivateRedis


def reasons(fleet: Fleet, event: str) -> list[str]:
    return [line["reason"] for line in fleet.said(event)]


def check_online(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ha_monitor", "check", "--online"]
    env = os.environ | environment_of_commands(tmp_path)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=patient(60), check=False)


def test_a_right_that_is_missing_at_the_start(
    tmp_path: Path, rabbitmq: PrivateRabbitMQ, broker_url: str, store_url: str
) -> None:
    """given a user who may not read the queue, when an instance is started and checked, then both name the right and
    the command; when it is granted, then the same instance consumes
    """
    vhost = vhost_of(broker_url)
    documented = documented_permissions()
    rabbitmq.set_permissions(STORE_USER, vhost, Permissions(documented.configure, documented.write, "^celeryev$"))
    with Fleet(tmp_path, broker_url, store_url, size=1) as fleet:
        (instance,) = fleet.instances
        instance.start()
        wait_until(lambda: fleet.said("broker-unavailable"), 30, "the refusal")
        checked = check_online(tmp_path)
        rabbitmq.set_permissions(STORE_USER, vhost, documented)
        wait_until(instance.consumes, 60, "that it consumes")
        reason = reasons(fleet, "broker-unavailable")[0]
        assert check_online(tmp_path).returncode == 0
    missing = f"user monitor may not read the queue celeryev.fleet in vhost {vhost}; grant it: rabbitmqctl "
    assert missing in reason
    assert "\n" not in reason
    assert (checked.returncode, f"failed   broker: {urlsplit(broker_url).hostname}" in checked.stdout) == (78, True)
    assert missing in checked.stdout


def test_a_right_that_is_taken_away(
    tmp_path: Path, broker_url: str, own_redis: PrivateRedis, fault_table: FaultTable
) -> None:
    """given a load, when the user of the store may write no more for a while, then all instances name the right and the
    command, and nothing is lost or doubled
    """

    def grant(*rules: str) -> None:
        with own_redis.client() as client:
            client.execute_command("ACL", "SETUSER", STORE_USER, *rules)

    def all_said(event: str, times: int = 1) -> bool:
        return all(one.said(event) >= times for one in fleet.instances)

    with Fleet(tmp_path, broker_url, own_redis.url()).start() as fleet:
        load = Load(broker_url, replicate(read_stream("small"), 1000, start=time.time()), rate=200)
        wait_until(lambda: fleet.said("task-succeeded"), 30, "work")
        grant("-@write")
        wait_until(lambda: all_said("store-unavailable", 3), 60, "that all instances notice, and try again")
        grant(*(for_redis_6(store_rules()) if is_redis_6() else store_rules()))
        wait_until(lambda: all_said("store-connected", 2), 60, "the instances' return")
        published = load.stop()
        account = fault_table.add("Redis: the right to write taken away", fleet.close_account(published))
    assert_guarantee(account)
    lines: list[Line] = fleet.said("store-unavailable")
    assert all("user monitor may not run " in line["reason"] for line in lines), lines
    assert all(line["reason"].endswith("grant it: ACL SETUSER monitor " + " ".join(store_rules())) for line in lines)
