"""Regular expressions that mean the same to every Python that the program runs on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.sources import nodes_of

PACKAGE = Path(__file__).resolve().parents[2] / "ha_monitor"
REPEATED_GROUP = re.compile(r"(?<!\\)\)(?:\*|\+|\?|\{+\w*,?\w*\}+)\+")


def strings_of(file: Path) -> Iterator[str]:
    """The texts in a file that are no docstrings, also the parts of f-strings."""
    docstrings = {node.value for node in nodes_of(file) if isinstance(node, ast.Expr)}
    for node in nodes_of(file):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.value


def test_no_group_is_repeated_possessively() -> None:
    """Given Debian 12, whose Python 3.11.2 matches `(?:…)*+` wrongly, no pattern has it; `(?>(?:…)*)` is right."""
    files = sorted(PACKAGE.rglob("*.py"))
    found = [(file.name, text) for file in files for text in strings_of(file) if REPEATED_GROUP.search(text)]
    assert files
    assert found == []
