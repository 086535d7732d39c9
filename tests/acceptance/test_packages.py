"""The artifacts as users get them: `make wheel` and `make deb`, inspected, installed, used and removed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import tarfile
import time
import venv
import zipfile
from pathlib import Path

import pytest

from ha_monitor.version import __version__
from tests.support.ci import need
from tests.support.debian_root import DebianRoot
from tests.support.machine import patient
from tests.support.process import OwnProcess, wait_until
from tests.unit.test_secret_texts import SECRET, redactor

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
ROOTS = ROOT / "build/roots"
SUITES = {"bookworm": "12", "trixie": "13"}
CONTENTS = {
    *(str(path.relative_to(ROOT / "ha_monitor")) for path in (ROOT / "ha_monitor/store/lua").rglob("*.lua")),
    *(f"schema/{path.name}" for path in (ROOT / "ha_monitor/schema").glob("*.json")),
    *(f"units/{path.name}" for path in (ROOT / "systemd").iterdir()),
    "py.typed",
}
SHARED = (
    *(f"prometheus/{name}.{kind}yml" for name in ("ha-monitor", "flower") for kind in ("rules.", "rules.test.")),
    *(f"grafana/ha-monitor{part}.json" for part in ("", "-tasks", "-workers")),
)
"""In share/ha-monitor of the environment or of the host."""
pytestmark = pytest.mark.timeout(patient(1200))


def make(target: str) -> None:
    result = subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel; the source archive that it was built from lies beside it."""
    need("make")
    make("wheel")
    return DIST / f"ha_monitor-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new virtual environment with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", wheel], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    """The Debian package of each release."""
    need("make", "unshare", "chroot", root=True)
    make("deb")
    return {suite: package_in(DIST, suite) for suite in SUITES}


def package_in(folder: Path, suite: str) -> Path:
    (found,) = folder.glob(f"ha-monitor_{__version__}+deb{SUITES[suite]}_*.deb")
    return found


@pytest.mark.parametrize(("days", "status"), [(6, 0), (8, 1)])
def test_a_system_to_build_in_is_taken_for_a_week_from_where_it_is_kept(days: int, status: int, tmp_path: Path) -> None:
    """Given a machine whose apt has no mirror, a system of some days ago is taken as it is, and an older one is not."""
    script = ROOT / "packaging/build-root"
    (packages,) = re.findall(r"(?m)^packages=(.+)$", script.read_text())
    (tmp_path / "system").mkdir()
    (tmp_path / "system/file").write_text("kept")
    archive = tmp_path / f"bookworm-{packages}.tar"
    with tarfile.open(archive, "w") as opened:
        opened.add(tmp_path / "system", ".")
    made = time.time() - days * 86400
    os.utime(archive, (made, made))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "bin/apt-get").chmod(0o755)

    done = subprocess.run(
        [script, "bookworm", tmp_path / "build/bookworm", tmp_path],
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == status, done.stderr
    assert [path.read_text() for path in (tmp_path / "build").glob("bookworm/file")] == (["kept"] if days < 7 else [])
    assert ("no Debian mirror" in done.stderr) == (days > 7)


@pytest.fixture(params=list(SUITES))
def suite(request: pytest.FixtureRequest) -> str:
    """Each release's name in turn."""
    return str(request.param)


def test_the_wheel_is_complete(wheel: Path) -> None:
    """Given the wheel, it has the scripts, the schema, the units, the rules and the dashboard, and nothing else that is
    not the program.
    """
    names = set(zipfile.ZipFile(wheel).namelist())
    data = f"ha_monitor-{__version__}.data"

    assert {name.removeprefix("ha_monitor/") for name in names} >= CONTENTS
    assert {name for name in names if name.startswith(data)} == {
        f"{data}/data/share/ha-monitor/{one}" for one in SHARED
    }
    assert {name.split("/")[0] for name in names} == {"ha_monitor", f"ha_monitor-{__version__}.dist-info", data}


def test_the_source_archive_is_complete(wheel: Path) -> None:
    """Given the source archive, it has the same, as files and not as links to what is not there."""
    top = f"ha_monitor-{__version__}"

    with tarfile.open(wheel.with_name(f"{top}.tar.gz")) as archive:
        files = {member.name for member in archive.getmembers() if member.isfile()}

    assert files >= {f"{top}/ha_monitor/{name}" for name in CONTENTS}
    assert files >= {f"{top}/{name}" for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")}


def test_an_installed_wheel_works(installed: Path, store_url: str, redis_broker_url: str, tmp_path: Path) -> None:
    """Given the wheel in a clean environment, an instance connects to broker and store, and stops when told to."""
    instance = OwnProcess(
        [str(installed / "ha-monitor"), "run", "--instance", "pip"],
        tmp_path / "log",
        env={"PATH": os.defpath, "HA_MONITOR_BROKER_URL": redis_broker_url, "HA_MONITOR_STORE_URL": store_url},
        cwd=tmp_path,
    )
    try:
        wait_until(
            lambda: '"broker-connected"' in instance.output() and '"store-connected"' in instance.output(),
            what="both connections",
        )
        instance.send(signal.SIGTERM)
        assert wait_until(lambda: not instance.running, what="its end")
        assert instance.returncode == 0
    finally:
        instance.send_all(signal.SIGKILL)


def test_an_installed_wheel_writes_its_units(installed: Path, tmp_path: Path) -> None:
    """Given the wheel in a clean environment, it writes the units that start what is installed elsewhere."""
    subprocess.run(
        [installed / "ha-monitor", "units", "--prefix", "/opt/ha-monitor", "--output", tmp_path],
        check=True,
        capture_output=True,
    )

    text = (tmp_path / "ha-monitor@.service").read_text(encoding="utf-8")
    assert "\nExecStart=/opt/ha-monitor/bin/ha-monitor run --instance %i\n" in text
    assert (tmp_path / "ha-monitor.target").exists()


def test_a_debian_package_is_the_same_wherever_it_is_built(
    packages: dict[str, Path], suite: str, tmp_path: Path
) -> None:
    """Given a second build in another folder and with another umask, each byte of the package is the same."""
    command: list[str | Path] = [
        "packaging/build-deb",
        suite,
        ROOTS / suite,
        ROOT / "build/wheelhouse",
        tmp_path,
        "/srv/other/place",
    ]

    subprocess.run(command, cwd=ROOT, check=True, umask=0o077)

    assert sha256(package_in(tmp_path, suite)) == sha256(packages[suite])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_lintian_finds_nothing(packages: dict[str, Path], suite: str) -> None:
    """Given the package, Debian's own checker has neither an error nor a warning."""
    need("lintian")

    result = subprocess.run(["lintian", "--allow-root", packages[suite]], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == (0, "")


def test_nothing_in_the_package_names_where_it_was_built(packages: dict[str, Path], suite: str, tmp_path: Path) -> None:
    """Given the unpacked package, no script, setting or record has a path of the build."""
    subprocess.run(["dpkg-deb", "--extract", packages[suite], tmp_path], check=True)

    environment = tmp_path / "usr/lib/ha-monitor"
    assert list(environment.rglob("direct_url.json")) == []
    assert {path.name for path in (environment / "bin").iterdir() if not path.name.startswith("python")} == set()
    texts = [environment / "pyvenv.cfg", *environment.rglob("RECORD")]
    assert [path for path in texts if re.search(r"/build/|/srv/|wheels/", path.read_text(encoding="utf-8"))] == []


def hidden_by(host: DebianRoot, folder: Path, texts: list[str]) -> list[str]:
    """What the installed program makes of texts, with the Python of its Debian."""
    script = """
import json, sys
from ha_monitor.config.schema import DEFAULT_REDACTED
from ha_monitor.events.redact import Redactor
json.dump([Redactor(DEFAULT_REDACTED, 32_768).text(text) for text in json.load(open("/srv/texts.json"))], sys.stdout)
"""
    file = folder / "texts.json"
    file.write_text(json.dumps(texts))
    host.put(file, "/srv/texts.json")
    hidden: list[str] = json.loads(host.run(f"/usr/lib/ha-monitor/bin/python3 -I -c '{script}'"))
    return hidden


def test_a_debian_package_from_its_installation_to_its_purge(
    packages: dict[str, Path], suite: str, tmp_path: Path
) -> None:
    """Given a bare Debian, the package installs, works, keeps what was edited, and leaves nothing but its user."""
    host = DebianRoot(ROOTS / suite, tmp_path)
    host.put(packages[suite], "/srv/monitor.deb")

    # Installed: the program, its secrets for root alone, its user, its target.
    host.run("apt-get update -qq && apt-get install -y -qq --no-install-recommends /srv/monitor.deb")
    assert host.run("ha-monitor --version") == f"ha-monitor {__version__}\n"
    assert "valid; node_id ha-monitor" in host.run("ha-monitor check")
    host.run("/usr/lib/ha-monitor/bin/python3 -I -c 'import kombu.transport.pyamqp, kombu.transport.redis, hiredis'")
    assert hidden_by(host, tmp_path, [text for text, _ in SECRET]) == [redactor.text(text) for text, _ in SECRET]
    modes = host.run("stat -c '%a %U %G' /etc/ha-monitor/credentials /etc/ha-monitor/credentials/*").splitlines()
    assert (modes[0], set(modes[1:])) == ("700 root root", {"600 root root"})
    assert "/usr/sbin/nologin" in host.run("getent passwd ha-monitor")
    host.run(f"cd /usr/share/ha-monitor && ls {' '.join(SHARED)} && ! ls /usr/lib/ha-monitor/share/ha-monitor")
    assert host.run("ls /etc/systemd/system/multi-user.target.wants").split().count("ha-monitor.target") == 1
    assert host.run("find /usr/lib/ha-monitor -name 'main.*.pyc' | wc -l").strip() != "0"

    # Configured: secrets that root's shell uses, too, and a handler of the administrator's own.
    host.run(
        """
        printf nonsense >/etc/ha-monitor/credentials/broker_url
        status=0; ha-monitor check || status=$?; test $status = 78
        as_nobody() { setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }
        said=$(as_nobody ha-monitor status 2>&1) && false || test $? = 78
        echo "$said" | grep 'may not read broker_url and store_url, .* as root'
        as_nobody env HA_MONITOR_BROKER_URL=amqp://b HA_MONITOR_STORE_URL=redis://s ha-monitor check
        printf amqp://user:word@broker// >/etc/ha-monitor/credentials/broker_url
        printf '[handlers]\\nmodules = ["tickets"]\\n' >/etc/ha-monitor/ha-monitor.toml
        cat >/etc/ha-monitor/handlers/tickets.py <<END
from ha_monitor.handling import on

@on("task-failed")
def open_ticket(event, record):
    pass
END
        """
    )
    assert "1 handlers" in host.run("ha-monitor check")

    # Installed over itself, as by an upgrade: no question, no file of the administrator's changed.
    before = host.run("cd /etc/ha-monitor && find . -type f -exec sha256sum {} + | sort")
    host.run("dpkg -i /srv/monitor.deb")
    assert host.run("cd /etc/ha-monitor && find . -type f -exec sha256sum {} + | sort") == before

    # Removed, and purged.
    host.run("dpkg --remove ha-monitor")
    assert host.run("ls /usr/lib /usr/bin | grep -c ha-monitor || true").strip() == "0"
    assert host.run("cat /etc/ha-monitor/credentials/broker_url") == "amqp://user:word@broker//"
    host.run("dpkg --purge ha-monitor")
    assert host.run("find / -xdev -name '*ha-monitor*'") == ""
    assert host.run("getent passwd ha-monitor") != ""
