"""What is wrong is refused or stopped before it harms, and a rollout that was stopped is completed by the next run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

import pytest

from tests.fleet.bed import ALL, NINE, THREE, UNCHANGED, FleetBed, fingerprint, run, starts
from tests.fleet.names import NameServer
from tests.fleet.packages import built_packages

WAIT = 6
"""Seconds."""


@contextmanager
def untouched(fleet: FleetBed) -> Iterator[None]:
    """Whatever is done within restarts no instance, and writes no file that one depends on."""
    before, files = starts(fleet), [fingerprint(host) for host in fleet.hosts]
    yield
    assert [fingerprint(host) for host in fleet.hosts] == files
    assert starts(fleet) == before


MISSING = "/srv/no-such-package.deb"


@pytest.fixture
def name_server(fleet: FleetBed) -> Iterator[None]:
    """One that knows no name, which the first host asks: without any, a name may only be not known yet."""
    with NameServer(fleet.address) as server:
        run(fleet.host("vm1"), f"echo nameserver {server.address} >/etc/resolv.conf")
        yield
    run(fleet.host("vm1"), "rm /etc/resolv.conf")


@pytest.mark.usefixtures("name_server")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param(
            {"ha_monitor_settings": {"log": {"levle": "debug"}}}, ["log.levle: unknown key"], id="an unknown key"
        ),
        pytest.param(
            {"ha_monitor_settings": {"queue": {"message_ttl": 3600}}},
            ["x-message-ttl"],
            id="arguments that the queue does not have",
        ),
        pytest.param(
            {"ha_monitor_store_url": "postgres://h/0"}, ["store.url"], id="a secret that is no URL of a Redis"
        ),
        pytest.param(
            {"ha_monitor_broker_url": "$nowhere"}, ["vhost nowhere not found"], id="a vhost that there is not"
        ),
        pytest.param(
            {"ha_monitor_store_url": "redis://nobody:wrong@$store/0"},
            ["the user name or password in store.url is wrong"],
            id="a user that there is not",
        ),
        pytest.param(
            {
                "ha_monitor_broker_url": "amqp://u:p@no-host.example//",
                "ha_monitor_store_url": "redis://no-host.example",
            },
            [
                "the name of this host cannot be resolved (Name or service not known): correct broker.url",
                "the name of this host cannot be resolved (Name or service not known): correct store.url",
            ],
            id="hosts that there are not",
        ),
        pytest.param({"ha_monitor_instance": 1}, ["Unknown variables: ha_monitor_instance."], id="a mistyped variable"),
        pytest.param(
            {"ha_monitor_settings": {"http": {"password": "hunter2"}}},
            ["ha_monitor_http_password"],
            id="a secret where all could read it",
        ),
    ],
)
def test_a_wrong_configuration_touches_nothing(fleet: FleetBed, wrong: dict[str, object], said: list[str]) -> None:
    """Given a configuration that is wrong, the run says what is wrong and changes nothing on any host."""
    urls = {"nowhere": fleet.services.amqp_url("nowhere"), "store": f"{fleet.services.host.address}:6379"}
    wrong = {
        name: Template(value).substitute(urls) if isinstance(value, str) else value for name, value in wrong.items()
    }

    with untouched(fleet):
        refused = fleet.ansible.play(**{**THREE, **wrong})

    assert refused.status != 0
    assert [one for one in said if one not in refused.output] == []
    assert fleet.services.password not in refused.output
    assert refused.changed == UNCHANGED


def test_a_dry_run_finds_a_package_that_is_missing_for_the_last_host(fleet: FleetBed) -> None:
    """Given a package for the release of all hosts but the last one, --check says so, before it foresees anything for
    the first ones."""
    others = next(str(package) for package in built_packages() if "deb12" in package.name)
    source = f"{{{{ '{others}' if ansible_facts['distribution_major_version'] == '12' else '{MISSING}' }}}}"

    with untouched(fleet):
        refused = fleet.ansible.play(check=True, **{**THREE, "ha_monitor_source": source})

    assert refused.status != 0
    assert refused.failed == {"vm3"}
    assert f"there is no file {MISSING} on the machine" in refused.output
    assert refused.changed == UNCHANGED
    assert "TASK [ha_monitor : Ask for the package" not in refused.output


def test_a_handler_that_cannot_be_imported_touches_nothing(fleet: FleetBed, tmp_path: Path) -> None:
    """Given a handler module with a library that is not there, the run stops before anything is replaced."""
    module = tmp_path / "alerts.py"
    module.write_text("import library_that_nobody_has\n")

    with untouched(fleet):
        refused = fleet.ansible.play(**THREE, ha_monitor_handlers=[str(module)])

    assert refused.status != 0
    assert "No module named 'library_that_nobody_has'" in refused.output


def test_the_tag_verify_finds_an_instance_that_does_not_consume_and_changes_nothing(fleet: FleetBed) -> None:
    """Given an instance that somebody stopped, the tag `verify` passes the host before it and fails at its host,
    naming it; it is left as it is."""
    vm2 = fleet.host("vm2")
    run(vm2, "systemctl stop ha-monitor@1")
    before = starts(fleet)

    verified = fleet.ansible.play("site.yml", "--tags=verify", ha_monitor_health_timeout=WAIT, **THREE)

    assert verified.failed == {"vm2"}
    # With a pause of a second after each attempt, which itself takes a good part of one.
    assert verified.output.count("FAILED - RETRYING") < WAIT
    assert "On vm2 these instances do not consume with version" in verified.output
    assert "3 of 3 instances consume" in verified.output, "vm1 was not verified"
    assert verified.changed == UNCHANGED
    assert starts(fleet) == before
    run(vm2, "systemctl start ha-monitor@1")
    fleet.wait_until_consuming(NINE)


def test_a_rollout_stops_at_the_first_instance_that_does_not_consume_and_the_next_run_completes_it(
    fleet: FleetBed,
) -> None:
    """Given units that make instances fail, as no check can foresee, the rollout stops at the first one with the last
    lines of its journal. The next run, which is to leave one instance a host, repairs it, and restarts no other."""
    before = fleet.consuming()

    # All events since the last row are counted: those of the tests above, too.
    with fleet.watch.over("all that was refused; a failing rollout stopped") as row:
        stopped = fleet.ansible.play(
            **THREE, ha_monitor_health_timeout=3, ha_monitor_service_settings={"Environment": "HA_MONITOR_NONSENSE=1"}
        )
        survived = fleet.consuming()

    assert stopped.failed == {"vm1"}
    assert "HA_MONITOR_NONSENSE: unknown variable" in stopped.output, "the journal's last lines are not in the message"
    assert before - survived == {one for one in before if (one.host, one.name) == ("vm1", "1")}
    assert {(one.host, one.name) for one in survived} == NINE - {("vm1", "1")}
    row.assert_guarantee()

    with fleet.watch.over("repaired, and from 3 to 1 instances a host") as row:
        fleet.ansible.play().assert_good()

    assert fleet.names() == ALL
    assert {one for one in fleet.consuming() if one.host != "vm1"} < before, "an instance that stays was restarted"
    assert all(run(host, "ls /etc/ha-monitor/instances") == "1.toml\n" for host in fleet.hosts)
    row.assert_guarantee()
