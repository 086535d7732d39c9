"""ha-monitor's Debian package on a host, and the RabbitMQ and Redis that its instances use.

    site = Site(bridge, "trixie")
    bridge.start()
    site.install()
    site.restore()                      # three instances, as installed, consuming
    journal = site.journal()
    published = Load(site.services.broker_url, fresh_copies(3), rate=500).finish()
    assert_guarantee(site.account(journal, published))

A test may change the configuration, the units and the instances as it likes: the next `restore` undoes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.hosts import Bridge, Host, Services, Suite
from tests.support.ledger import Account, Line, Published, balance
from tests.support.process import ServiceMissing, program, wait_until

ROOT = Path(__file__).resolve().parents[2]
RELEASES: dict[Suite, str] = {"bookworm": "12", "trixie": "13"}
NAMES = ("1", "2", "3")
CONFIGURATION = Path("/etc/ha-monitor/ha-monitor.toml")
DROP_IN = Path("/etc/systemd/system/ha-monitor@.service.d/test.conf")
# What a dead or frozen instance holds reaches the others late, and the tests demand a name in every line.
DEFAULT = "[store]\nname_wait = 30.0\n"


def built_package(suite: Suite) -> Path:
    """The Debian package of a release, from ``$HA_MONITOR_PACKAGES`` or dist/.

    :raises ServiceMissing: if it is not built.
    """
    folder = Path(os.environ.get("HA_MONITOR_PACKAGES") or ROOT / "dist")
    found = sorted(folder.glob(f"ha-monitor_*+deb{RELEASES[suite]}_*.deb"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ServiceMissing(f"there is no package for Debian {RELEASES[suite]} in {folder}; `make deb` builds it")
    return found[-1]


def newer_package(package: Path, version: str, folder: Path) -> Path:
    """The same package as its next version: the program says so, and the example configuration is another.

    :param folder: where it is made.
    """
    tree = folder / "tree"
    subprocess.run([program("dpkg-deb"), "-R", str(package), str(tree)], check=True)
    (source,) = tree.glob("usr/lib/ha-monitor/lib/*/site-packages/ha_monitor/version.py")
    example = tree / "usr/share/ha-monitor/ha-monitor.toml"
    _substitute(source, r'__version__ = ".*"', f'__version__ = "{version}"')
    _substitute(example, r"\A", "# The example of the next version.\n")
    _substitute(tree / "DEBIAN/control", r"(?m)^Version: [^+]*", f"Version: {version}")
    sums = "find * -path DEBIAN -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum"
    listing = subprocess.run(["sh", "-c", sums], cwd=tree, capture_output=True, text=True, check=True).stdout
    (tree / "DEBIAN/md5sums").write_text(listing)
    made = folder / re.sub(r"_[^+]*", f"_{version}", package.name, count=1)
    # The fastest compression: it is only carried to a host.
    subprocess.run([program("dpkg-deb"), "--root-owner-group", "-Zgzip", "-z1", "-b", str(tree), str(made)], check=True)
    shutil.rmtree(tree)
    return made


def _substitute(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1, f"no {pattern} in {path}"
    path.write_text(text)


class Journal:
    """What the instances of a host say from now on, read as it grows."""

    def __init__(self, host: Host) -> None:
        self.lines: list[Line] = []
        self.bad: list[str] = []
        """Entries that are no JSON objects."""
        self.bytes = 0
        self._host = host
        self.since = f"--since=@{host.run('date +%s.%6N').stdout.strip()}"
        """Option of journalctl for where it began."""
        self._place = self.since

    def read(self) -> list[Line]:
        """All lines so far."""
        # systemd 252 skips an entry after a cursor that the other options do not match: this one comes from the same.
        command = f"journalctl -q --no-pager -o cat -t ha-monitor {self._place} --show-cursor"
        done = self._host.run(command, check=False, timeout=120)
        # That there is nothing yet is an error to systemd 252, which says no word about it.
        assert done.returncode == 0 or not (done.stdout or done.stderr), done
        *texts, last = done.stdout.split("\n")[:-1] or [""]
        if texts:
            self._place = f"--after-cursor='{last.removeprefix('-- cursor: ')}'"
        for text in texts:
            self.bytes += len(text)
            try:
                line: Any = json.loads(text)
            except ValueError:
                line = None
            if isinstance(line, dict):
                self.lines.append(line)
            else:
                self.bad.append(text[:500])
        return self.lines

    def said(self, event: str, instance: str | None = None) -> list[Line]:
        """The lines with this event so far."""
        return [line for line in self.read() if line["event"] == event and instance in (None, line["instance"])]

    def query(self, *matches: str, output: str = "cat") -> list[str]:
        """What journalctl finds with other options, from the same place on."""
        command = ["journalctl", "-q", "--no-pager", f"-o {output}", self.since, *matches]
        return self._host.run(" ".join(command), timeout=120).stdout.splitlines()


class Site:
    """A host with the package, and a host with the services of the same release of Debian."""

    def __init__(self, bridge: Bridge, suite: Suite) -> None:
        self.services = Services(bridge, f"services{RELEASES[suite]}", suite)
        self.host = bridge.host(f"debian{RELEASES[suite]}", suite)
        self.package = built_package(suite)
        self.name = f"Debian {RELEASES[suite]}"
        self._as_installed = False

    # --- the package and its configuration ---------------------------------------------------

    def install(self, package: Path | None = None) -> str:
        """Install the package, or another one, as an administrator does; returns what apt says."""
        chosen = package or self.package
        self.host.push(chosen)
        # No terminal and nothing to read: a question would be an error.
        command = f"DEBIAN_FRONTEND=noninteractive apt-get install -y /tmp/{chosen.name} </dev/null"
        done = self.host.run(command, timeout=180)
        self._as_installed = False
        return done.stdout + done.stderr

    @property
    def installed(self) -> bool:
        return self.host.run("dpkg-query -W -f '${Status}' ha-monitor", check=False).stdout == "install ok installed"

    def put(self, path: Path | str, text: str) -> None:
        """Write a file on the host."""
        self._as_installed = False
        self.host.run(f"mkdir -p {Path(path).parent} && cat >{path}", stdin=text)

    def override(self, *settings: str) -> None:
        """Change the units by a drop-in, as ``systemctl edit`` does."""
        self.put(DROP_IN, "[Service]\n" + "\n".join(settings) + "\n")
        self.host.run("systemctl daemon-reload")

    def restore(self) -> None:
        """Have three instances run as installed, whatever the test before has done."""
        if self._as_installed and all(status.startswith("consuming") for status in self.show("StatusText")):
            return
        if not self.installed:
            self.install()
        folder = CONFIGURATION.parent
        self.host.run(
            f"rm -rf {DROP_IN.parent} {folder}/instances/* {folder}/handlers/*; systemctl daemon-reload;"
            "systemctl -q disable 'ha-monitor@1' 'ha-monitor@2' 'ha-monitor@3' 2>/dev/null;"
            "systemctl stop 'ha-monitor@*'; systemctl reset-failed"
        )
        self.put(CONFIGURATION, DEFAULT)
        for name, url in (("broker_url", self.services.broker_url), ("store_url", self.services.redis_url())):
            # The file of the package, which is root's alone, is filled.
            self.host.run(f"cat >{folder}/credentials/{name}", stdin=f"{url}\n")
        self.start()
        self._as_installed = True

    # --- the instances -----------------------------------------------------------------------

    def units(self, *names: str) -> str:
        return " ".join(f"ha-monitor@{name}" for name in names or NAMES)

    def start(self, *names: str) -> None:
        """Start instances, all three if none is named, and wait until they consume."""
        self.host.run(f"systemctl start {self.units(*names)}", timeout=90)
        self.wait_until_consuming(*names)

    def restart(self, *names: str) -> None:
        """Restart instances, all three if none is named, and wait until they consume."""
        self.host.run(f"systemctl restart {self.units(*names)}", timeout=90)
        self.wait_until_consuming(*names)

    def wait_until_consuming(self, *names: str, timeout: float = 60) -> None:
        self.wait_for_status("consuming", *names, timeout=timeout)

    def wait_for_status(self, beginning: str, *names: str, timeout: float = 60) -> list[str]:
        """Wait until the status texts of instances begin so, and return them."""

        def all_say_so() -> list[str]:
            texts = self.show("StatusText", *names)
            return texts if all(text.startswith(beginning) for text in texts) else []

        return wait_until(all_say_so, timeout, f"{beginning!r} as the status of {names or NAMES}", 0.2)

    def show(self, name: str, *names: str) -> list[str]:
        """A property of instances, all three if none is named, as systemd shows it."""
        output = self.host.run(f"systemctl show --value -p {name} {self.units(*names)}").stdout
        return output.removesuffix("\n").split("\n\n")

    def clock(self) -> float:
        """Seconds by the clock of systemd's ``…Monotonic`` properties."""
        return float(self.host.run("cut -d' ' -f1 /proc/uptime").stdout)

    def became_active(self, name: str) -> float:
        """When an instance last became active, by :meth:`clock`."""
        return int(self.show("ActiveEnterTimestampMonotonic", name)[0]) / 1e6

    def signal(self, name: str, signal: str) -> float:
        """Send a signal to an instance; returns when, by :meth:`clock`."""
        kill = f"systemctl kill --kill-who=main -s {signal} ha-monitor@{name}"
        return float(self.host.run(f"cut -d' ' -f1 /proc/uptime && {kill}").stdout)

    # --- what they said ----------------------------------------------------------------------

    def journal(self) -> Journal:
        """The journal of all instances from now on."""
        return Journal(self.host)

    def account(self, journal: Journal, published: Published, timeout: float = 60) -> Account:
        """What became of published events, once all are announced or the time is over."""
        with contextlib.suppress(TimeoutError):  # the account says what is missing
            wait_until(lambda: published.are_in(journal.read()), timeout, "the announcement of all", 0.3)
        account = balance(published, journal.lines, bad=journal.bad)
        if account.doubled and not account.froze:
            # A long outbox is taken over in pieces, and the line that tells of it comes after the last one.
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: journal.said("outbox-taken-over"), 60, "the end of a takeover", 0.3)
            account = balance(published, journal.lines, bad=journal.bad)
        return account
