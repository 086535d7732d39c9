"""What `make test` installs and builds for the tests that are asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.machine import patient

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
SIGNS = {
    "lint": "ruff check",
    "redis": "redis-server",
    "rabbitmq": "rabbitmq-server",
    "prometheus": "promtool",
    "alertmanager": "prometheus-alertmanager",
    "nginx": "nginx-light",
    "host tools": "systemd-nspawn",
    "packages": "packaging/build-deb",
    "browser": "chromium-driver",
    "ansible": "installing Ansible",
    "develop": "installing ha-monitor and the development tools",
}
"""What stands in the commands that provide each."""
PACKAGES = {"packages"} if os.getuid() == 0 else set()
SERVICES = {"redis", "rabbitmq"}


def provided(tests: str, target: str = "test") -> set[str]:
    """What `make test TESTS=…` would provide on a machine that has nothing yet."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "TESTS"}
    done = subprocess.run(
        [make, "--dry-run", "--always-make", "--no-print-directory", target, f"TESTS={tests}"],
        cwd=ROOT, env=inherited, capture_output=True, text=True, timeout=patient(60), check=True,
    )  # fmt: skip
    return {name for name, sign in SIGNS.items() if sign in done.stdout} - {"develop"}


@pytest.mark.parametrize(
    ("tests", "needs"),
    [
        ("tests/unit", set()),
        ("tests/unit/test_config.py::test_a_mistake tests/unit/ -x -k name", set()),
        ("tests/browser", {"redis", "browser"}),
        ("tests/recording", SERVICES),
        ("tests/integration/test_store.py", SERVICES | {"prometheus", "alertmanager", "nginx"}),
        ("tests/acceptance/faults/test_faults_store.py tests/unit", SERVICES),
        ("tests/acceptance/test_demo.py", SERVICES | PACKAGES),
        ("tests/hosts", {"host tools"} | PACKAGES),
        ("tests/fleet", {"host tools", "prometheus", "ansible"} | PACKAGES),
        ("tests", SIGNS.keys() - {"lint", "develop", "packages"} | PACKAGES),
        ("-k lease", SIGNS.keys() - {"lint", "develop", "packages"} | PACKAGES),
        ("", SERVICES | {"lint", "prometheus", "alertmanager", "nginx", "ansible"}),
    ],
)
def test_only_what_the_chosen_tests_need_is_provided(tests: str, needs: set[str]) -> None:
    """Given some tests, what they stand on is installed and built, and nothing else; given none, all environments of
    Python, and what the first tests need."""
    assert provided(tests) == needs


def test_the_rest_is_provided_beside_the_first_tests() -> None:
    """Given all tests, everything is installed and built while those run that need none of it; the Python code was
    checked before."""
    assert provided("", "prepare-tests") == SIGNS.keys() - {"lint", "develop", "packages"} | PACKAGES


def test_each_folder_says_what_it_needs() -> None:
    """Given all files with tests, the Makefile knows what their folder stands on."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    folders = set(re.findall(r"^NEEDS_(\S+) :=", text, re.MULTILINE))
    files = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")]

    (listed,) = re.findall(r"^TEST_FOLDERS := (.*)$", text, re.MULTILINE)
    assert folders == set(listed.split())
    assert [str(file) for file in files if not any(file.is_relative_to(folder) for folder in folders)] == []


NOBODY = 65534
"""A user and a group who are not root."""
DPKG = """\
dpkg-buildpackage: info: source package ha-monitor
   debian/rules override_dh_auto_build
make[1]: Entering directory
   debian/rules override_dh_auto_install
   dh_builddeb
"""


def test_the_folder_for_the_packages_is_the_users() -> None:
    """Given an ordinary user with sudo, only the build itself is root's: the folder that it writes to is made before it
    by the user, and what make notes there is the user's, too."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        [make, "--dry-run", "--always-make", "--no-print-directory", "dist/.deb-bookworm", "SUDO=as-root"],
        cwd=ROOT, env={**os.environ, "DPKG_DEB_COMPRESSOR_LEVEL": "1"},
        capture_output=True, text=True, timeout=patient(60), check=True,
    )  # fmt: skip

    rows = [row.split() for row in done.stdout.splitlines() if re.search(r"\bdist\b", row)]
    assert [row[:2] for row in rows] == [
        ["mkdir", "-p"],
        ["echo", "'1'"],
        ["as-root", "packaging/build-deb"],
        ["touch", "dist/.deb-bookworm"],
    ]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("status", [0, 2])
def test_the_build_of_the_package_says_what_takes_long(tmp_path: Path, status: int) -> None:
    """Given a build of some minutes, each long step is said when it begins; one that fails shows its whole log. What
    root built belongs to whoever the folder for it belongs to."""
    root, tools, wheels, dist = (tmp_path / name for name in ("root", "tools", "wheels", "dist"))
    for folder in (root / "etc", tools, wheels, dist):
        folder.mkdir(parents=True)
    if os.getuid() == 0:
        os.chown(dist, NOBODY, NOBODY)
    (root / "etc/os-release").write_text('VERSION_ID="12"\n')
    unshare = tools / "unshare"
    unshare.write_text(f"#!/bin/sh\ncat <<END\n{DPKG}END\ntouch {root}/build/here/ha-monitor.deb\nexit {status}\n")
    unshare.chmod(0o755)

    done = subprocess.run(
        [ROOT / "packaging/build-deb", "bookworm", root, wheels, dist, "/build/here"],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=patient(120), check=False,
    )  # fmt: skip

    said = [row.removeprefix("Debian bookworm: ") for row in done.stdout.splitlines()]
    assert said[0] == "building the package, which takes some minutes"
    assert said[1:4] == ["making wheels of the libraries", "installing them into the package", "packing"]
    if status == 0:
        assert (done.returncode, done.stderr, said[4:]) == (0, "", ["done"])
        built, owner = (dist / "ha-monitor.deb").stat(), dist.stat()
        assert (built.st_uid, built.st_gid) == (owner.st_uid, owner.st_gid)
    else:
        assert (done.returncode, done.stderr, said[4:]) == (1, DPKG, [])
