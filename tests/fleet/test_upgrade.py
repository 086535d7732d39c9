"""Other versions, from an apt repository and from a URL."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ha_monitor.version import __version__
from tests.fleet.bed import NINE, THREE, FleetBed, run
from tests.fleet.packages import CONFUSING_VERSION, HIGHER_VERSION, SUITES, built_packages, package_pattern, packages_of


def test_a_rolling_upgrade_from_an_apt_repository(fleet: FleetBed, tmp_path: Path) -> None:
    """Given an apt repository with this version, the wanted one and another whose number begins alike, the tag
    `install` brings the wanted one to all nine instances, one after the other."""
    (tmp_path / "confusing").mkdir()
    higher, confusing = packages_of(HIGHER_VERSION, tmp_path), packages_of(CONFUSING_VERSION, tmp_path / "confusing")
    for suite, *packages in zip(SUITES, built_packages(), higher, confusing, strict=True):
        fleet.repository.add_packages(suite, packages)
    for host in fleet.hosts:
        run(host, f"echo '{fleet.repository.apt_source(host.suite)}' >/etc/apt/sources.list")

    with fleet.watch.over("rolling upgrade from an apt repository") as row:
        fleet.ansible.play(
            "site.yml", "--tags=install", ha_monitor_version=HIGHER_VERSION, ha_monitor_source="ha-monitor", **THREE
        ).assert_good()

    assert fleet.names() == NINE
    assert {one.version for one in fleet.consuming()} == {HIGHER_VERSION}
    row.assert_guarantee()


def test_a_rollback_by_a_url_is_an_upgrade_to_the_lower_version(fleet: FleetBed) -> None:
    """Given the higher version, the lower one comes from a URL with a checksum to all nine instances."""
    checksums = {
        release: f"sha256:{hashlib.sha256(package.read_bytes()).hexdigest()}"
        for release, package in zip(("12", "13"), built_packages(), strict=True)
    }
    source = package_pattern(f"{fleet.repository.url}/files")

    with fleet.watch.over("rollback by a URL, 9 instances") as row:
        fleet.ansible.play(
            ha_monitor_source=source,
            ha_monitor_source_checksum=f"{{{{ {checksums}[ansible_facts['distribution_major_version']] }}}}",
            **THREE,
        ).assert_good()

    assert fleet.names() == NINE
    assert {one.version for one in fleet.consuming()} == {__version__}
    assert fleet.repository.asked_for(rf"/files/ha-monitor_{__version__}\+deb13")
    row.assert_guarantee()
