"""Runs the playbooks as an administrator does, and reads what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.hosts import Host
from tests.support.machine import patient
from tests.support.process import ServiceMissing

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".venv-ansible/bin"
OLDEST = ROOT / ".venv-ansible-oldest/bin"
"""The oldest version that the role is for: Debian 12's, for hosts with that release."""
OLDEST_RUNS = sys.version_info < (3, 12)
TIMEOUT = 600
"""Seconds: a rollout over three hosts takes one or two minutes, on a busy machine several times that."""

_RECAP = re.compile(r"^(\S+)\s*: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class Played(NamedTuple):
    """The result of one run."""

    status: int
    changed: dict[str, int]
    """Tasks that changed something, for each host that was reached by the play at all."""
    failed: set[str]
    """Hosts with a failed task, or not reached."""
    seconds: float
    output: str

    def assert_good(self) -> Played:
        """Fail with the end of the output if it did not succeed."""
        assert self.status == 0, self.output[-6000:]
        return self


class Ansible:
    """Playbooks on some hosts, which are reached by SSH as an unprivileged user with sudo."""

    def __init__(self, hosts: Iterable[Host], folder: Path, variables: Mapping[str, Any]) -> None:
        """:raises ServiceMissing: if Ansible is not installed."""
        if not (PROGRAMS / "ansible-playbook").exists():
            raise ServiceMissing("Ansible is not installed: make lint-ansible")
        folder.mkdir(exist_ok=True)
        self.plays = 0
        """How many runs there were."""
        self.seconds = 0.0
        """What they took, all together."""
        self._folder = folder
        self._settings = folder / "ansible.cfg"
        # Ansible looks a thousand times a second whether a task has ended: a twentieth of a core while it waits.
        self._settings.write_text("[defaults]\ninternal_poll_interval = 0.01\n")
        self._inventory = folder / "inventory.json"
        entries = {host.name: host.ansible_variables() for host in hosts}
        self._inventory.write_text(json.dumps({"ha_monitor": {"hosts": entries, "vars": dict(variables)}}))

    def play(
        self,
        playbook: str = "site.yml",
        *options: str,
        check: bool = False,
        limit: str = "",
        oldest: bool = False,
        **variables: Any,
    ) -> Played:
        """Run a playbook with these variables over those of the inventory; a failure is part of the result.

        :param oldest: with the oldest Ansible, where this Python can run it.
        """
        command = [f"ansible/{playbook}", "--diff", *options]
        command += ["--check"] if check else []
        command += ["--limit", limit] if limit else []
        began = time.monotonic()
        done = self._run("ansible-playbook", command, variables, OLDEST if oldest and OLDEST_RUNS else PROGRAMS)
        seconds = time.monotonic() - began
        self.plays += 1
        self.seconds += seconds
        recap = _RECAP.findall(done.stdout)
        return Played(
            status=done.returncode,
            changed={host: int(changed) for host, changed, _, _ in recap},
            failed={host for host, _, unreachable, failed in recap if unreachable != "0" or failed != "0"},
            seconds=seconds,
            output=done.stdout + done.stderr,
        )

    def render(self, template: Path, **variables: Any) -> str:
        """What a template becomes with the inventory, on this machine."""
        target = self._folder / template.stem
        arguments = f"src={template} dest={target} mode=0644"
        command = ["localhost", "--connection=local", "--module-name=ansible.builtin.template", "--args", arguments]
        done = self._run("ansible", command, variables, PROGRAMS)
        assert done.returncode == 0, done.stdout + done.stderr
        return target.read_text()

    def _run(
        self, program: str, arguments: list[str], variables: dict[str, Any], programs: Path
    ) -> subprocess.CompletedProcess[str]:
        command = [str(programs / program), "--inventory", str(self._inventory), *arguments]
        return subprocess.run(
            [*command, "--extra-vars", json.dumps(variables)],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(self._settings),
                "ANSIBLE_HOME": str(self._folder),
                "ANSIBLE_NOCOLOR": "1",
                # As by default but for -C, which compresses each module once more, for a network within the machine.
                "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patient(TIMEOUT),
            check=False,
        )
