"""The Ansible role's variables are the same in its defaults, in their typed form and in its README."""

from __future__ import annotations

import re
from pathlib import Path

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
ROLE = ANSIBLE / "roles/ha_monitor"
REQUIRED = {"ha_monitor_version", "ha_monitor_broker_url", "ha_monitor_store_url"}
"""Those that have no default and must be set."""


def names(pattern: str, path: Path) -> list[str]:
    return re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_variable_is_described_typed_and_has_a_default() -> None:
    """Given the role, each variable is in the README's table and in the argument specs once, and has a default unless
    it must be set."""
    described = names(r"^\| `(ha_monitor_\w+)` \|", ANSIBLE / "README.md")
    typed = names(r"^      (ha_monitor_\w+):$", ROLE / "meta/argument_specs.yml")
    defaults = names(r"^(ha_monitor_\w+):", ROLE / "defaults/main.yml")

    assert sorted(described) == sorted(typed)
    assert sorted(defaults) == sorted(set(typed) - REQUIRED)


def test_every_secret_is_called_one() -> None:
    """Given a variable whose typed form says that it is a secret, the README says so, too, and of no other."""
    specs = (ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8")
    parts = re.split(r"(?m)^      (ha_monitor_\w+):$", specs)[1:]
    secret = {name for name, text in zip(parts[::2], parts[1::2], strict=True) if text.endswith(" A secret.\n")}

    assert secret == set(names(r"^\| `(ha_monitor_\w+)` \|.* A secret \|$", ANSIBLE / "README.md"))
