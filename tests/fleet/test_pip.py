"""One host changes from the package to pip, and to other versions, from an index, a URL and a file."""

from __future__ import annotations

import base64
import json
import shlex
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ha_monitor.exit_status import ExitStatus
from ha_monitor.version import __version__
from tests.fleet.bed import ALL, ASKED_EACH, CONFIGURED, FleetBed, page, run, state_of_pages
from tests.fleet.packages import CONFUSING_VERSION, HIGHER_VERSION, built_wheel, library_wheels, wheel_of
from tests.support.hosts.remote import User
from tests.support.machine import patient
from tests.support.process import wait_until

CREDENTIALS = "/etc/ha-monitor/credentials"
NOT_READABLE = (
    f"{CREDENTIALS}: this user may not read broker_url and store_url, which the instances of this host use: "
    "run the command as root, or set HA_MONITOR_BROKER_URL and HA_MONITOR_STORE_URL"
)
ENSUREPIP = "/usr/lib/python3.11/ensurepip"


def by_pip(fleet: FleetBed, version: str, source: str, **variables: Any) -> dict[str, Any]:
    """Variables of one host for the version from this source, with its libraries from the administrator's index."""
    host = fleet.repository.url.removeprefix("http://").partition(":")[0]
    return {
        **CONFIGURED,
        "ha_monitor_install_method": "pip",
        "ha_monitor_version": version,
        "ha_monitor_source": source,
        "ha_monitor_pip_extra_args": [f"--index-url={fleet.repository.index}", f"--trusted-host={host}"],
        **variables,
    }


def folder_of(fleet: FleetBed) -> str:
    """Where the interpreter of the running instance is, as its command line says."""
    command = "tr '\\0' '\\n' </proc/$(systemctl show --property=MainPID --value ha-monitor@1)/cmdline"
    return str(Path(run(fleet.host("vm2"), command).splitlines()[0]).parent)


def withdraw_virtual_environments(fleet: FleetBed, folder: Path) -> None:
    """Make the second host one on which nothing was ever installed: no apt lists, and what virtual environments need is
    only in the administrator's repository."""
    control = "Package: python3-venv\\nVersion: 99\\nArchitecture: all\\nMaintainer: a@example\\nDescription: moved\\n"
    script = f"""
        set -e
        mkdir -p /root/moved/DEBIAN /root/moved$(dirname {ENSUREPIP})
        printf '{control}' >/root/moved/DEBIAN/control
        cp -a {ENSUREPIP} /root/moved{ENSUREPIP}
        dpkg-deb --root-owner-group -Zgzip -b /root/moved /root/moved.deb >&2
        dpkg --purge --force-depends python3-venv python3.11-venv >&2
        rm -rf /root/moved /var/lib/apt/lists/*
        base64 /root/moved.deb
    """
    package = folder / "python3-venv_99_all.deb"
    package.write_bytes(base64.b64decode(run(fleet.host("vm2"), script)))
    fleet.repository.add_packages("bookworm", [package])
    run(fleet.host("vm2"), f"echo '{fleet.repository.apt_source('bookworm')}' >/etc/apt/sources.list")


def test_one_host_changes_from_the_package_to_pip_by_an_index(fleet: FleetBed, tmp_path: Path) -> None:
    """Given an index with several versions, a host with the package refuses pip until it is uninstalled; then it gets
    the wanted version, while the others carry on, though it has neither Python's virtual environments nor apt's lists.
    """
    fleet.repository.add_wheels([*library_wheels(tmp_path / "libraries"), built_wheel()])
    fleet.repository.add_wheels(wheel_of(version, tmp_path) for version in (HIGHER_VERSION, CONFUSING_VERSION))
    wanted = by_pip(fleet, __version__, "ha-monitor")

    refused = fleet.ansible.play(limit="vm2", **wanted)
    assert refused.status != 0
    assert "uninstall.yml" in refused.output

    with fleet.watch.over("one host from the package to pip, by an index") as row:
        fleet.ansible.play("uninstall.yml", limit="vm2", oldest=True).assert_good()
        withdraw_virtual_environments(fleet, tmp_path)
        fleet.ansible.play(limit="vm2", oldest=True, **wanted).assert_good()

    assert fleet.names() == ALL
    assert folder_of(fleet) == f"/opt/ha-monitor/{__version__}/bin"
    assert state_of_pages(fleet.host("vm2"))["UnitFileState"] == "enabled"
    assert "3 of 3 instances consume" in page(fleet.host("vm2"), "/monitor")
    row.assert_guarantee()


def test_a_handler_on_the_host_with_pip_is_called_by_its_own_python(fleet: FleetBed) -> None:
    """Given the handler module in /etc/ha-monitor/handlers, as with the package, the instance that runs in the virtual
    environment calls it."""
    started = "$(systemctl show --property=InvocationID --value ha-monitor@1)"
    query = f"journalctl -q -o cat _SYSTEMD_INVOCATION_ID={started}"

    def called() -> list[str]:
        lines = [json.loads(line) for line in run(fleet.host("vm2"), query).splitlines() if line.startswith("{")]
        return [line["message"] for line in lines if line.get("library") == "fleet_alerts"]

    wait_until(lambda: len(called()) > 0, 60, "a call of the handler", interval=ASKED_EACH)

    assert all(message.endswith(" of tests.fail") for message in called())
    assert folder_of(fleet).startswith("/opt/ha-monitor/")


def test_whoever_is_logged_in_asks_what_the_units_of_pip_use(fleet: FleetBed) -> None:
    """Given the host with pip, root finds the command by its name in a login shell, and it finds what the units use. An
    ordinary user is told which files are not readable, and what to do; each of both cures is one."""
    vm2 = fleet.host("vm2")

    def typed(command: str, user: User) -> tuple[int, str]:
        done = vm2.run(f"bash -lc {shlex.quote(command)}", user=user, check=False)
        return done.returncode, done.stdout + done.stderr

    urls = f"HA_MONITOR_BROKER_URL={fleet.services.broker_url} HA_MONITOR_STORE_URL={fleet.services.redis_url()}"
    for command, said in (
        ("status", "queue celeryev.v2.shop: "),
        ("check --online", "valid; node_id shop, queue celeryev.v2.shop, 1 handlers"),
        ("errors", "tests.fail"),
    ):
        refused = typed(f"ha-monitor {command}", "admin")
        assert refused[0] == ExitStatus.CONFIGURATION, refused
        assert NOT_READABLE in refused[1]
        may: list[tuple[str, User]] = [
            (f"ha-monitor {command}", "root"),
            (f"sudo ha-monitor {command}", "admin"),
            (f"{urls} ha-monitor {command}", "admin"),
        ]
        for line, user in may:
            status, output = typed(line, user)
            assert (status, said in output) == (0, True), (line, user, output)


def test_pip_upgrades_by_a_url_and_by_a_file(fleet: FleetBed, tmp_path: Path) -> None:
    """Given a host with pip, a higher version comes from a URL and the next one from a file; a second run changes
    nothing. The password for the metrics, which comes with one of them, is a secret and is asked for."""
    vm2, password = fleet.host("vm2"), "swordfish-and-chips"
    url = f"{fleet.repository.url}/files/ha_monitor-{HIGHER_VERSION}-py3-none-any.whl"
    settings = {**CONFIGURED["ha_monitor_settings"], "http": {"listen": "0.0.0.0:954%i", "username": "prometheus"}}
    secured = {"ha_monitor_settings": settings, "ha_monitor_http_password": password}

    with fleet.watch.over("pip: a higher version by a URL") as row:
        done = fleet.ansible.play(
            "site.yml", "-vvv", limit="vm2", **by_pip(fleet, HIGHER_VERSION, url, **secured)
        ).assert_good()

    assert folder_of(fleet) == f"/opt/ha-monitor/{HIGHER_VERSION}/bin"
    assert password not in done.output
    assert run(vm2, f"grep -rlsF {password} /etc").split() == ["/etc/ha-monitor/credentials/http_password"]
    assert run(vm2, "stat -c %a /etc/ha-monitor/credentials/http_password").strip() == "600"
    assert metrics_status(vm2.address, "") == 401
    assert metrics_status(vm2.address, password) == 200
    row.assert_guarantee()

    file = by_pip(fleet, CONFUSING_VERSION, str(wheel_of(CONFUSING_VERSION, tmp_path)))
    with fleet.watch.over("pip: a higher version by a file") as row:
        fleet.ansible.play(limit="vm2", **file).assert_good()

    assert fleet.names() == ALL
    assert folder_of(fleet) == f"/opt/ha-monitor/{CONFUSING_VERSION}/bin"
    assert vm2.console("ls /etc/ha-monitor/credentials/http_password").returncode, "a secret that is not set is there"
    assert metrics_status(vm2.address, "") == 200
    row.assert_guarantee()
    assert fleet.ansible.play(limit="vm2", **file).assert_good().changed == {"vm2": 0}


def metrics_status(address: str, password: str) -> int:
    """HTTP status of instance 1's metrics."""
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    url = f"http://{address}:9541/metrics"
    passwords.add_password(None, url, "prometheus", password, is_authenticated=bool(password))
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    try:
        with opener.open(url, timeout=patient(10)) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
