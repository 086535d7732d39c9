"""The systemd units, and `ha-monitor units`, which writes them for an installation by pip."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ha_monitor.cli import units
from ha_monitor.config.load import settings
from ha_monitor.errors import ConfigurationError
from ha_monitor.exit_status import ExitStatus
from tests.support.ci import need

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "systemd/ha-monitor@.service"
WEB = ROOT / "systemd/ha-monitor-web.service"
MOST_EXPOSURE = 1.2


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    units.add_parser(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    return parser.parse_args(["units", *arguments])


def directives(name: str, service: Path = SERVICE) -> list[str]:
    """Values of a directive in a service, in order."""
    return re.findall(rf"^{name}=(.*)$", service.read_text(encoding="utf-8"), re.MULTILINE)


def test_written_units_start_the_command_of_the_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given an installation below /opt, the units are those of the package, but for the command."""
    status = units.run(parse("--prefix", "/opt/ha-monitor", "--output", str(tmp_path / "new")))

    assert status is ExitStatus.OK
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()}
    assert set(written) == {"ha-monitor@.service", "ha-monitor.target", "ha-monitor-web.service"}
    assert written["ha-monitor.target"] == (ROOT / "systemd/ha-monitor.target").read_text(encoding="utf-8")
    changed = set(written["ha-monitor@.service"].splitlines()) ^ set(SERVICE.read_text(encoding="utf-8").splitlines())
    assert changed == {
        "ExecStart=/usr/bin/ha-monitor run --instance %i",
        "ExecStart=/opt/ha-monitor/bin/ha-monitor run --instance %i",
    }
    assert "ExecStart=/opt/ha-monitor/bin/ha-monitor web" in written["ha-monitor-web.service"].splitlines()
    output = capsys.readouterr()
    assert str(tmp_path / "new/ha-monitor@.service") in output.out
    assert "systemd-sysusers --inline 'u ha-monitor - \"ha-monitor\" - -'" in output.out
    assert "there is no /opt/ha-monitor/bin/ha-monitor on this host" in output.err


def test_the_default_prefix_is_the_environment_of_the_command() -> None:
    """Given no --prefix, the units start the program that wrote them."""
    assert parse().prefix == Path(sys.prefix)
    assert parse().output == Path("/etc/systemd/system")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("venv", "--prefix: venv: expected an absolute path"),
        ("/opt/../home/me", "--prefix: /opt/../home/me: expected an absolute path"),
        ("/opt/ha monitor", "--prefix: /opt/ha monitor: expected a path without blanks, quotes, %, $ and \\"),
        ("/opt/50%", "--prefix: /opt/50%: expected a path without blanks, quotes, %, $ and \\"),
        (
            "/home/me/venv",
            "--prefix: /home/me/venv: the service cannot see /home; install it elsewhere, such as /opt/ha-monitor",
        ),
        ("/root", "--prefix: /root: the service cannot see /root; install it elsewhere, such as /opt/ha-monitor"),
    ],
)
def test_a_prefix_that_no_service_could_use_is_refused(prefix: str, expected: str, tmp_path: Path) -> None:
    """Given a prefix that a unit could not name or the sandbox hides, nothing is written, and one line says why."""
    with pytest.raises(ConfigurationError) as raised:
        units.run(parse("--prefix", prefix, "--output", str(tmp_path)))

    assert str(raised.value) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Given a file where the folder should be, one line names it."""
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(ConfigurationError) as raised:
        units.run(parse("--prefix", "/opt/ha-monitor", "--output", str(tmp_path / "file")))

    assert str(raised.value) == f"--output: {tmp_path}/file: cannot be written: File exists"


@pytest.mark.parametrize("unit", ["ha-monitor@1.service", "ha-monitor-web.service"])
def test_systemd_accepts_the_units(tmp_path: Path, unit: str) -> None:
    """Given the units with a command that exists, systemd has no complaint about any line."""
    need("systemd-analyze")
    for name in units.UNITS:
        (tmp_path / name).write_text(units.unit(name, Path("/bin/true")), encoding="utf-8")

    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / unit],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("service", [SERVICE, WEB], ids=lambda path: path.stem)
def test_the_sandbox_leaves_little_exposed(service: Path) -> None:
    """Given a service, systemd's own score of its exposure is at most 1.2 of 10."""
    need("systemd-analyze")

    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", service],
        capture_output=True,
        text=True,
        check=True,
    )

    score = re.search(r"Overall exposure level for \S+: ([0-9.]+) ", result.stdout)
    assert score is not None
    assert float(score[1]) <= MOST_EXPOSURE


def test_secrets_come_as_credentials_and_from_nowhere_else() -> None:
    """Given the service, each of its credentials is a key of the configuration, and may be missing on the host."""
    loaded = dict(line.split(":", 1) for line in directives("LoadCredential"))
    defaults = dict(line.split(":", 1) for line in directives("SetCredential"))

    assert loaded == {name: f"/etc/ha-monitor/credentials/{name}" for name in loaded}
    assert {"broker_url", "store_url", "http_password"} <= set(loaded) <= {setting.credential for setting in settings()}
    assert defaults == dict.fromkeys(loaded, r"\n")
    assert directives("Environment") == directives("EnvironmentFile") == []


def test_the_pages_have_no_secret_that_they_do_not_need() -> None:
    """Given the service of the pages, it gets the store's address and its own password, and none of the broker's."""
    loaded = dict(line.split(":", 1) for line in directives("LoadCredential", WEB))

    assert loaded == {name: f"/etc/ha-monitor/credentials/{name}" for name in ("store_url", "web_password")}
    assert directives("SetCredential", WEB) == [rf"{name}:\n" for name in loaded]
    assert directives("Environment", WEB) == directives("EnvironmentFile", WEB) == []
    assert directives("User", WEB) == directives("User")


@pytest.mark.parametrize("service", [SERVICE, WEB], ids=lambda path: path.stem)
def test_a_crash_is_followed_by_a_restart_and_a_wrong_configuration_is_not(service: Path) -> None:
    """Given a service, it is tried again without end, unless its configuration is wrong."""
    assert directives("Restart", service) == ["always"]
    assert directives("StartLimitIntervalSec", service) == ["0"]
    assert directives("RestartPreventExitStatus", service) == [str(int(ExitStatus.CONFIGURATION))]


def test_the_package_has_the_units_from_their_one_source() -> None:
    """Given the source tree, the package's units are the files in systemd/ themselves, not copies."""
    assert (ROOT / "ha_monitor/units").resolve() == ROOT / "systemd"
    assert {*units.UNITS, units.SYSUSERS} == {path.name for path in (ROOT / "systemd").iterdir()}


def test_the_user_of_the_service_is_the_one_that_is_made() -> None:
    """Given the sysusers file, it makes the user that the service runs as."""
    text = (ROOT / "systemd" / units.SYSUSERS).read_text(encoding="utf-8")

    assert re.findall(r"^u (\S+) ", text, re.MULTILINE) == directives("User") == directives("Group")


def test_shell_scripts_are_sound() -> None:
    """Given every shell script of the packages, the shell can read it."""
    scripts = [path for path in (ROOT / "packaging").rglob("*") if path.is_file() and _is_shell(path)]

    assert len(scripts) >= 8
    for script in scripts:
        subprocess.run([shutil.which("sh") or "/bin/sh", "-n", script], check=True)


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().rstrip() == b"#!/bin/sh"
