"""The end of a fleet."""

from __future__ import annotations

from tests.fleet.bed import FleetBed


def test_uninstalling_leaves_nothing(fleet: FleetBed) -> None:
    """Given hosts with the package and one with pip, two of which serve the pages, uninstalling leaves no file, user,
    unit or process of it (but logs, and what apt keeps of its downloads); a second time it has nothing to do."""
    fleet.load.pause()

    fleet.ansible.play("uninstall.yml").assert_good()
    again = fleet.ansible.play("uninstall.yml", limit="vm2,vm3").assert_good()

    assert again.changed == {"vm2": 0, "vm3": 0}
    for host in fleet.hosts:
        left = host.console(
            "find / -xdev -path /proc -prune -o -path /var/log -prune -o -path /var/cache/apt -prune"
            " -o -iname '*ha[-_]monitor*' -print; getent passwd ha-monitor; getent group ha-monitor;"
            " systemctl list-units --all --plain --no-legend 'ha-monitor*'; pgrep -f '[h]a[-_]monitor (run|web)'"
        ).stdout
        assert left == "", f"{host.name}: {left}"
