"""What the program imports is declared, and what is declared is what the Debian package contains."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from importlib.metadata import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.sources import nodes_of

ROOT = Path(__file__).resolve().parents[2]
NOT_IMPORTED = {"tzdata", "packaging"}
"""Declared for kombu, which needs them and does not say so."""
SPLIT_OFF = {"ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "venv"}
"""Modules of Python that Debian has in packages of their own, on which the package does not depend."""


def imported() -> set[str]:
    """Top-level names of all that any module of the program imports, at whichever place."""
    names = set()
    for path in (ROOT / "ha_monitor").rglob("*.py"):
        for node in nodes_of(path):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - {"ha_monitor"}


def declared() -> dict[str, Requirement]:
    """What setup.cfg requires, by name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].split("\n")
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(one.name): one for one in found}


def provided_by(library: str) -> set[str]:
    """The top-level names that can be imported because it is installed."""
    return {file.parts[0].partition(".")[0] for file in files(library) or () if file.suffix in (".py", ".so")}


def test_every_library_that_is_imported_is_declared() -> None:
    """Given all imports of the program, their libraries are those that setup.cfg requires: none is there by luck, as
    something that another one requires, and none is required for nothing.
    """
    owners = {name: library for library in declared() for name in provided_by(library)}
    libraries = imported() - sys.stdlib_module_names

    assert {owners.get(name, name) for name in libraries} == declared().keys() - NOT_IMPORTED


def test_the_debian_package_contains_what_is_declared() -> None:
    """Given the lock of the Debian package, it has each library, in a version that setup.cfg allows."""
    text = (ROOT / "packaging/requirements.lock").read_text(encoding="utf-8")
    locked: dict[str, str] = {
        canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([\w.]+)", text)
    }

    assert [name for name in declared() if name not in locked] == []
    assert [name for name, one in declared().items() if locked[name] not in one.specifier] == []


@pytest.mark.parametrize("field", ["Depends", "Recommends"])
def test_the_debian_package_depends_on_pythons_own_library_alone(field: str) -> None:
    """Given debian/control, it depends on no library, since all are in the package, and the program imports nothing
    of Python's own that Debian has elsewhere.
    """
    control = (ROOT / "packaging/debian/control").read_text(encoding="utf-8").split("\nPackage: ")[1]
    needed = re.search(rf"^{field}:\n((?: .*\n)+)", control, re.MULTILINE)

    assert "python3-" not in (needed[1] if needed else "")
    assert imported() & SPLIT_OFF == set()
