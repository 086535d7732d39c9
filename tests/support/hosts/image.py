"""Images of Debian hosts, built once and kept: every host is an overlay on one of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from tests.support.process import ServiceMissing, program

Suite = Literal["bookworm", "trixie"]
"""Debian 12 and Debian 13."""

BUILD_TIMEOUT = 900
"""Seconds. It takes half a minute with a near mirror."""

# What a server has after Debian's own installation, as far as ha-monitor and Ansible may ask for it. The hosts have
# no network but the bridge: whatever is not here cannot be installed later.
PLAIN = (
    *("systemd", "systemd-sysv", "dbus", "udev", "libpam-systemd", "init-system-helpers", "adduser"),
    *("iproute2", "procps", "openssh-server", "sudo", "ca-certificates", "jq"),
    *("python3", "python3-venv", "python3-apt"),
)
SERVICES = ("rabbitmq-server", "redis-server")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Run on this machine when the packages are in; "$1" is the image's root.
CUSTOMIZE = r"""
set -eu
systemctl --root="$1" --quiet enable systemd-networkd
# Nothing outside answers, so "apt-get update" has nothing to ask, and succeeds.
rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap
# These would find no network, or get into the way of a test, such as at midnight.
systemctl --root="$1" --quiet mask apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service \
  dpkg-db-backup.timer e2scrub_all.timer fstrim.timer logrotate.timer man-db.timer
mkdir -p "$1"/etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\n' >"$1"/etc/systemd/journald.conf.d/10-persistent.conf
chroot "$1" useradd --create-home --shell /bin/bash --password '*' admin
printf 'admin ALL=(ALL) NOPASSWD: ALL\n' >"$1"/etc/sudoers.d/admin
chmod 0440 "$1"/etc/sudoers.d/admin
rm -f "$1"/etc/resolv.conf
"""


def cache_folder() -> Path:
    """Where images and running hosts are kept: ``$HA_MONITOR_TEST_CACHE``, or a folder in /var/cache."""
    return Path(os.environ.get("HA_MONITOR_TEST_CACHE") or "/var/cache/ha-monitor-tests")


def build_image(suite: Suite, *, services: bool = False) -> Path:
    """Root folder of an image; it is built if there is none with these packages yet.

    Packages come from the mirror that apt uses on this machine, or from mmdebstrap's own if that is not Debian's.

    :param services: with RabbitMQ and Redis.
    :raises ServiceMissing: if it cannot be built, as without a network.
    """
    packages = [*PLAIN, *(SERVICES if services else ())]
    recipe = json.dumps([suite, packages, CUSTOMIZE])
    kind = "services" if services else "plain"
    image = cache_folder() / "images" / f"{suite}-{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists():
            _build(suite, packages, image, lock.fileno())
    return image


def _build(suite: Suite, packages: list[str], image: Path, lock: int) -> None:
    unfinished = image.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    # In a mount namespace of its own: a mount that is left behind would lead whoever removes the image into /proc.
    command = ["nice", program("unshare"), "--mount", program("mmdebstrap")]
    command += ["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
    command += [f"--aptopt={option}" for option in _apt_options()]
    command += [f"--include={','.join(packages)}", f"--customize-hook={_as_hook(CUSTOMIZE)}"]
    command += [suite, str(unfinished), *_sources(suite)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT,
            check=False,
            # If the tests are killed, it goes on for a while, and holds the lock against the next who would build it.
            pass_fds=(lock,),
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceMissing(f"the image of Debian {suite} was not built within {BUILD_TIMEOUT} s") from error
    if done.returncode:
        raise ServiceMissing(f"the image of Debian {suite} cannot be built: {(done.stdout + done.stderr)[-1500:]}")
    unfinished.rename(image)


def _as_hook(script: str) -> str:
    # mmdebstrap gives a hook with shell characters in it to "sh -c", with the root as its first argument.
    return f'sh -c {shlex.quote(script)} customize "$1"'


def _apt_options() -> list[str]:
    """How apt reaches its mirrors on this machine, such as through a proxy."""
    dump = subprocess.run([program("apt-config"), "dump"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^(Acquire::(?:https?|Retries|ForceIPv\d|Check-)\S* .*);$", dump, re.MULTILINE)


def _sources(suite: Suite) -> list[str]:
    """Lines for sources.list with this machine's Debian mirrors; empty if it has none."""
    listing = subprocess.run(
        [program("apt-get"), "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    mirrors = dict(line.rsplit(" ", 1) for line in sorted(listing.splitlines()))
    if "Debian" not in mirrors:
        return []
    wanted = [("Debian", suite), ("Debian", f"{suite}-updates"), ("Debian-Security", f"{suite}-security")]
    return [f"deb [signed-by={KEYRING}] {mirrors[label]} {name} main" for label, name in wanted if label in mirrors]
