"""What the role installs: the Debian packages of this version and of a higher one, and wheels for pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ha_monitor.version import __version__
from tests.support.process import ServiceMissing

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("bookworm", "trixie")
HIGHER_VERSION = "999.0.0"


def package_pattern(folder: Path) -> str:
    """Value of ``ha_monitor_source``: each host takes the package of its own release.

    :raises ServiceMissing: if the packages of this version were not built.
    """
    if not list(folder.glob("ha-monitor_*.deb")):
        raise ServiceMissing(f"there are no Debian packages in {folder}: make deb")
    release = "{{ ansible_facts['distribution_major_version'] }}"
    return f"{folder}/ha-monitor_{{{{ ha_monitor_version }}}}+deb{release}_amd64.deb"


def build_higher_version(folder: Path) -> Path:
    """Build the packages of this tree under a higher version, and return their folder.

    :raises ServiceMissing: if what ``make deb`` prepares is not there.
    """
    tree, output = folder / "tree", folder / "dist"
    tree.mkdir(parents=True)
    script = "git -c safe.directory='*' ls-files -z --cached --others --exclude-standard | tar -c --null -T- | tar -xC"
    _run(["sh", "-c", f'{script} "$1"', "sh", str(tree)], ROOT)
    for name in ("ha_monitor/version.py", "packaging/debian/changelog"):
        file = tree / name
        file.write_text(file.read_text().replace(__version__, HIGHER_VERSION, 1))
    _run(["git", "init", "--quiet", "."], tree)
    for suite in SUITES:
        root = ROOT / "build/roots" / suite
        if not root.exists():
            raise ServiceMissing(f"there is no {root} to build packages in: make deb")
        # In a folder of its own below the root, so that two builds do not meet.
        place = f"/build/fleet-{folder.name}"
        _run(["packaging/build-deb", suite, str(root), str(ROOT / "build/wheelhouse"), str(output), place], tree)
    return output


def wheelhouse(folder: Path) -> Path:
    """All wheels of the libraries that the hosts' pip needs, which have no index."""
    folder.mkdir(parents=True)
    for wheel in (ROOT / "build/wheelhouse").glob("*.whl"):
        (folder / wheel.name).write_bytes(wheel.read_bytes())
    for archive in (ROOT / "build/wheelhouse").glob("*.tar.gz"):
        _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(archive)], folder)
    return folder


def wheel() -> Path:
    """The wheel of this version.

    :raises ServiceMissing: if it was not built.
    """
    found = list((ROOT / "dist").glob(f"ha_monitor-{__version__}-*.whl"))
    if not found:
        raise ServiceMissing("there is no wheel in dist: make wheel")
    return found[0]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise ServiceMissing(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
