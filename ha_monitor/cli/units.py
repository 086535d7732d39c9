"""`ha-monitor units`: the systemd units for a pip installation."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from ha_monitor.errors import ConfigurationError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import standard_error, standard_output

UNITS = ("ha-monitor@.service", "ha-monitor.target", "ha-monitor-web.service")
SYSUSERS = "ha-monitor.sysusers.conf"
PACKAGED_COMMAND = "/usr/bin/ha-monitor"
"""The command in the units of the Debian package."""

HIDDEN = tuple(Path(folder) for folder in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))
"""Folders that the units' sandbox hides: ProtectHome=, PrivateTmp=."""


def add_parser(commands: Any, _common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "units",
        help="write the systemd units for a pip installation",
        description="Writes ha-monitor@.service, ha-monitor.target and ha-monitor-web.service, and prints the "
        "remaining steps. The Debian package contains them.",
    )
    parser.add_argument(
        "--prefix",
        type=Path,
        default=Path(sys.prefix),
        metavar="PATH",
        help="the virtual environment that contains bin/ha-monitor (default: the one of this command)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("/etc/systemd/system"),
        metavar="DIR",
        help="where the units are written (default: /etc/systemd/system)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Write the units.

    :raises ConfigurationError: if no service could be started from that prefix, or the folder is not writable.
    """
    command, output = command_of(options.prefix), standard_output()
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        for name in UNITS:
            path = options.output / name
            path.write_text(unit(name, command), encoding="utf-8")
            output.row(str(path))
    except OSError as error:
        raise ConfigurationError(f"--output: {error.filename}: cannot be written: {error.strerror}") from None
    output.rows(_next_steps(command))
    if not command.exists():
        standard_error().row(f"ha-monitor: there is no {command} on this host (yet)")
    return ExitStatus.OK


def command_of(prefix: Path) -> Path:
    """The command that the units start.

    :raises ConfigurationError: if a unit could not name it, or the service could not see it.
    """
    if not prefix.is_absolute() or ".." in prefix.parts:
        raise ConfigurationError(f"--prefix: {prefix}: expected an absolute path")
    if any(character.isspace() or character in "%$\\\"'" for character in str(prefix)):
        raise ConfigurationError(f"--prefix: {prefix}: expected a path without blanks, quotes, %, $ and \\")
    hidden = next((folder for folder in HIDDEN if prefix.is_relative_to(folder)), None)
    if hidden is not None:
        raise ConfigurationError(
            f"--prefix: {prefix}: the service cannot see {hidden}; install it elsewhere, such as /opt/ha-monitor"
        )
    return prefix / "bin" / "ha-monitor"


def unit(name: str, command: Path) -> str:
    """The text of a unit that starts this command."""
    return _packaged(name).replace(f"ExecStart={PACKAGED_COMMAND} ", f"ExecStart={command} ")


def _packaged(name: str) -> str:
    from importlib import resources

    return (resources.files("ha_monitor") / "units" / name).read_text(encoding="utf-8")


def _next_steps(command: Path) -> list[str]:
    user = next(line for line in _packaged(SYSUSERS).splitlines() if line.startswith("u "))
    return f"""
Now, as root:
  systemd-sysusers --inline {shlex.quote(user)}
  ln -sf {command} /usr/local/bin/
  install -d -m 0700 /etc/ha-monitor/credentials
  (umask 077; cat >/etc/ha-monitor/credentials/broker_url)   # paste the broker's URL; the same for store_url
  systemctl daemon-reload
  systemctl enable ha-monitor.target
  systemctl enable --now ha-monitor@1
  systemctl enable --now ha-monitor-web   # the pages, if this host is to serve them
""".splitlines()
