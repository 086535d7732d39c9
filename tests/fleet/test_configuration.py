"""Another configuration: a new queue, handlers, secrets, and health and metrics for Prometheus."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from kombu import Connection

from tests.conftest import missing
from tests.fleet.bed import ALL, CONFIGURED, NAMES, FleetBed, page, ports, run, starts, state_of_pages
from tests.fleet.packages import ROOT
from tests.support.process import ServiceMissing, program, wait_for_value
from tests.support.prometheus import PrivatePrometheus

RULES = ROOT / "packaging/prometheus/ha-monitor.rules.yml"
SECRET = "correct-horse-battery-staple"
INSTALLED_RULES = "/usr/share/ha-monitor/prometheus/ha-monitor.rules.yml"


def test_a_new_queue_and_handlers_take_over_without_loss_and_without_doubles(fleet: FleetBed) -> None:
    """Given other arguments of the queue under a new prefix, a handler module, a secret among the transport's options,
    a result backend and an address to listen on, the tag `configure` brings them all; every failed task is handled
    once, and the secrets are nowhere but in their files."""
    results = fleet.services.redis_url(5)

    with fleet.watch.over("a new queue, handlers, metrics") as row:
        done = fleet.ansible.play("site.yml", "--tags=configure", "-vvv", **variables(fleet)).assert_good()

    assert consumers(fleet.services.broker_url, "celeryev.v2.shop") == 3
    assert consumers(fleet.services.broker_url, "celeryev.shop") == 0
    assert fleet.names() == ALL
    row.assert_guarantee()
    run(fleet.services.host, "rabbitmqctl -q delete_queue celeryev.shop")

    assert SECRET not in done.output
    assert fleet.services.password not in done.output
    for host in fleet.hosts:
        assert run(host, f"grep -rlsF {SECRET} /etc").split() == [
            "/etc/ha-monitor/credentials/broker_transport_options"
        ]
        assert run(host, "stat -c %a /etc/ha-monitor/credentials/broker_transport_options").strip() == "600"
        assert run(host, "cat /etc/ha-monitor/credentials/result_backend_url").strip() == results
        assert SECRET not in run(host, "journalctl -q")


def variables(fleet: FleetBed) -> dict[str, Any]:
    """Those of the new configuration, with its secrets."""
    return {
        **CONFIGURED,
        "ha_monitor_broker_transport_options": {"client_properties": {"information": SECRET}},
        "ha_monitor_result_backend_url": fleet.services.redis_url(5),
    }


def consumers(url: str, queue: str) -> int:
    """As the queue itself says: the lists of rabbitmqctl are some seconds old."""
    with Connection(url) as connection:
        count: int = connection.default_channel.queue_declare(queue, passive=True).consumer_count
        return count


def test_each_failed_task_is_handled_once_by_the_module_that_was_deployed(fleet: FleetBed) -> None:
    """Given the handler module of the run before on all hosts, it is called once for each failed task."""
    with fleet.watch.over("handlers called") as row:
        fleet.watch.wait_for_runs(30)  # a tenth as many fail

    said = Counter(line["message"] for line in row.lines if line.get("library") == "fleet_alerts")
    failed = {one for one, event in row.published.events.items() if event["type"] == "task-failed"}
    assert failed
    assert said == {f"{one} of tests.fail": 1 for one in failed}
    row.assert_guarantee()


def test_pages_are_served_where_they_are_wanted(fleet: FleetBed) -> None:
    """Given the hosts that are to serve the pages, the unit is enabled and answers on each with the whole fleet; a
    second run changes nothing. Where they are not wanted any more, it is stopped and disabled, and nothing else is
    touched."""
    vm1, before = fleet.host("vm1"), starts(fleet)
    for host in fleet.hosts:
        state = state_of_pages(host)
        assert (state["ActiveState"], state["UnitFileState"]) == ("active", "enabled"), host.name
        assert "3 of 3 instances consume" in page(host, "/monitor")

    again = fleet.ansible.play("site.yml", "--tags=configure", limit="vm1", **variables(fleet)).assert_good()
    assert again.changed == {"vm1": 0}

    taken = fleet.ansible.play(
        "site.yml", "--tags=configure", limit="vm1", **{**variables(fleet), "ha_monitor_web": False}
    ).assert_good()
    assert taken.changed == {"vm1": 1}
    assert state_of_pages(vm1) == {"ActiveState": "inactive", "UnitFileState": "disabled", "MainPID": "0"}
    assert starts(fleet) == before


def test_prometheus_scrapes_all_instances_by_the_configuration_in_the_readme(fleet: FleetBed, tmp_path: Path) -> None:
    """Given instances that listen, the template of the README becomes, with the fleet's inventory, a configuration
    that Prometheus accepts; its targets are all instances, and each answers."""
    assert [ports(host) for host in fleet.hosts] == [{9541}] * 3
    assert run(fleet.host("vm1"), f"cat {INSTALLED_RULES}") == RULES.read_text()
    section = (ROOT / "ansible/README.md").read_text().partition("\n## Prometheus\n")[2].partition("\n## ")[0]
    (template,) = re.findall(r"```jinja\n(.*?)```", section, re.DOTALL)
    (tmp_path / "prometheus.yml.j2").write_text(template)

    # The rules are where the package has them, on hosts; here they are in the tree.
    made = fleet.ansible.render(tmp_path / "prometheus.yml.j2", **CONFIGURED).replace(INSTALLED_RULES, str(RULES))

    (tmp_path / "prometheus.yml").write_text(made)
    try:
        command = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "1 rule files found" in checked.stdout
        targets = re.findall(r"^ +- (\S+:\d+)$", made, re.MULTILINE)
        assert targets == [f"{fleet.host(name).address}:9541" for name in NAMES]
        with PrivatePrometheus(targets, RULES) as prometheus:
            wait_for_value(
                lambda: prometheus.value("sum(ha_monitor_consuming)"), 3, 60, "three that consume", interval=0.5
            )
            assert prometheus.value('sum(up{job="ha-monitor"})') == 3
    except ServiceMissing as error:
        missing(error)
