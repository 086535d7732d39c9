"""What the role installs: Debian packages and wheels of this version and of others."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from ha_monitor.version import __version__
from tests.support.hosts import Suite
from tests.support.hosts_package import newer_package
from tests.support.machine import patient
from tests.support.process import ServiceMissing

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
SUITES: tuple[Suite, ...] = ("bookworm", "trixie")
HIGHER_VERSION = "9.0.1"
CONFUSING_VERSION = "9.0.10"
"""A version that begins as the one above does: who pins that must not get this."""
RELEASE = "{{ ansible_facts['distribution_major_version'] }}"


def package_pattern(folder: str) -> str:
    """Value of ``ha_monitor_source``, for a folder or a URL: each host takes the package of its own release."""
    return f"{folder}/ha-monitor_{{{{ ha_monitor_version }}}}+deb{RELEASE}_amd64.deb"


def built_packages() -> list[Path]:
    """The package of this version for each release.

    :raises ServiceMissing: if they were not built.
    """
    found = sorted(DIST.glob(f"ha-monitor_{__version__}+deb*.deb"))
    if len(found) != len(SUITES):
        raise ServiceMissing(f"there are no Debian packages in {DIST}: make deb")
    return found


def packages_of(version: str, folder: Path) -> list[Path]:
    """The packages of this tree as another version, which the program and dpkg say."""
    return [newer_package(package, version, folder) for package in built_packages()]


def built_wheel() -> Path:
    """The wheel of this version.

    :raises ServiceMissing: if it was not built.
    """
    found = list(DIST.glob(f"ha_monitor-{__version__}-*.whl"))
    if not found:
        raise ServiceMissing(f"there is no wheel in {DIST}: make wheel")
    return found[0]


def wheel_of(version: str, folder: Path) -> Path:
    """The wheel of this tree as another version, which the program and pip say."""
    original = built_wheel()
    made = folder / original.name.replace(__version__, version)
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "ha_monitor/version.py" or name.endswith("/METADATA"):
                pattern = rb"(?m)^(Version: |__version__ = \")" + re.escape(__version__).encode()
                content, count = re.subn(pattern, rb"\g<1>" + version.encode(), content)
                assert count == 1, f"no version in {name}"
            elif name.endswith("/RECORD"):
                # Without the hashes, two of which are wrong now; an installer need not look at them.
                paths = [line.split(",")[0] for line in content.decode().splitlines()]
                content = "".join(f"{_renamed(path, version)},,\n" for path in paths).encode()
            target.writestr(_renamed(name, version), content)
    return made


def library_wheels(folder: Path) -> list[Path]:
    """All wheels of the libraries that the program needs, for the hosts' releases.

    :raises ServiceMissing: if they cannot be made.
    """
    fetched = ROOT / "build/wheelhouse"
    folder.mkdir(parents=True)
    for archive in fetched.glob("*.tar.gz"):
        # In an environment of its own: older versions of pip would need the package wheel in this one.
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--use-pep517"]
        command += ["-w", str(folder), str(archive)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=patient(300), check=False)
        if done.returncode:
            raise ServiceMissing(f"no wheel of {archive.name} can be built: {done.stderr[-1500:]}")
    return [*fetched.glob("*.whl"), *folder.glob("*.whl")]


def _renamed(path: str, version: str) -> str:
    return path.replace(f"ha_monitor-{__version__}.dist-info", f"ha_monitor-{version}.dist-info")
