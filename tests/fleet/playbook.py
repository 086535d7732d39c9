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
from textwrap import indent
from typing import Any, NamedTuple

from tests.support.hosts import Host
from tests.support.hosts.cgroups import ControlGroups
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

    def __init__(
        self, hosts: Iterable[Host], folder: Path, variables: Mapping[str, Any], groups: ControlGroups
    ) -> None:
        """
        :param groups: what it runs in; they need not exist yet.
        :raises ServiceMissing: if Ansible is not installed.
        """
        if not (PROGRAMS / "ansible-playbook").exists():
            raise ServiceMissing("Ansible is not installed: make lint-ansible")
        folder.mkdir(exist_ok=True)
        self.plays = 0
        """How many runs there were."""
        self.seconds = 0.0
        """What they took, all together."""
        self._folder = folder
        self._groups = groups
        self._settings = folder / "ansible.cfg"
        # Ansible looks a thousand times a second whether a task has ended: a twentieth of a core while it waits.
        self._settings.write_text("[defaults]\ninternal_poll_interval = 0.01\n")
        self._inventory, self._encrypted = folder / "inventory.yml", folder / "encrypted.yml"
        self._hosts = {host.name: host.ansible_variables() for host in hosts}
        self._variables = dict(variables)
        self._inventory.write_text(self._inventory_with(self._variables))

    def encrypt(self, password: str, *names: str) -> str:
        """Make a second inventory, in which these variables are encrypted, and return it: as the README says, with the
        password typed twice for each, and what is printed put among the variables."""
        printed = ""
        for name in names:
            command = [str(PROGRAMS / "ansible-vault"), "encrypt_string", "--ask-vault-pass", "--name", name]
            done = self._run([*command, self._variables[name]], typed=f"{password}\n{password}\n")
            assert done.returncode == 0, done.stdout + done.stderr
            printed += f"{done.stdout.strip()}\n"
        plain = {name: value for name, value in self._variables.items() if name not in names}
        self._encrypted.write_text(self._inventory_with(plain, printed))
        return self._encrypted.read_text()

    def play(
        self,
        playbook: str = "site.yml",
        *options: str,
        check: bool = False,
        limit: str = "",
        oldest: bool = False,
        vault_password: str = "",
        **variables: Any,
    ) -> Played:
        """Run a playbook with these variables over those of the inventory; a failure is part of the result.

        :param oldest: with the oldest Ansible, where this Python can run it.
        :param vault_password: typed when it is asked for; with the inventory that `encrypt` has made.
        """
        programs = OLDEST if oldest and OLDEST_RUNS else PROGRAMS
        command = [str(programs / "ansible-playbook"), f"--inventory={self._inventory}", f"ansible/{playbook}"]
        if vault_password:
            command[1:2] = [f"--inventory={self._encrypted}", "--ask-vault-pass"]
        command += ["--diff", *options, *(["--check"] if check else []), *(["--limit", limit] if limit else [])]
        began = time.monotonic()
        done = self._run([*command, "--extra-vars", json.dumps(variables)], typed=f"{vault_password}\n")
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
        command = [str(PROGRAMS / "ansible"), f"--inventory={self._inventory}", "localhost", "--connection=local"]
        command += ["--module-name=ansible.builtin.template", "--args", arguments]
        done = self._run([*command, "--extra-vars", json.dumps(variables)])
        assert done.returncode == 0, done.stdout + done.stderr
        return target.read_text()

    def _inventory_with(self, variables: Mapping[str, Any], encrypted: str = "") -> str:
        """An inventory in YAML; what JSON can say is YAML, too."""
        lines = "".join(f"{name}: {json.dumps(value)}\n" for name, value in variables.items())
        return f"ha_monitor:\n  hosts: {json.dumps(self._hosts)}\n  vars:\n" + indent(lines + encrypted, "    ")

    def _run(self, command: list[str], typed: str = "") -> subprocess.CompletedProcess[str]:
        self._groups.create()
        return subprocess.run(
            command,
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
            # Without a terminal, passwords are read from there.
            start_new_session=True,
            preexec_fn=self._groups.join,
            input=typed,
            capture_output=True,
            text=True,
            timeout=patient(TIMEOUT),
            check=False,
        )
