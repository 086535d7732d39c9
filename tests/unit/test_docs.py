"""The documentation says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ha_monitor.config.schema import DEFAULT_REDACTED
from tests.support.configuration_table import table
from tests.support.sizing_table import bytes_a_day
from tests.support.sizing_table import table as sizing_table

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_documented_as_it_is() -> None:
    """Given the schema of the configuration, its table in the documentation is the same to the letter."""
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")

    assert table() in text, "run `python -m tests.support.configuration_table` and put its output there"


def test_every_row_of_a_table_has_the_cells_of_its_header() -> None:
    """Given a table of the documentation, no row has a cell too many, which readers would not see, or too few."""
    wrong, seen = [], 0
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        cells = 0  # of the table that the line is in
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            if found and cells and found != cells:
                wrong.append(f"{path.name}:{number}")
            cells = found and (cells or found)
            seen += bool(found)

    assert seen > 500
    assert wrong == []


def test_contributors_are_sent_to_what_there_is() -> None:
    """Given the files, folders and targets of make that CONTRIBUTING.md names, they exist."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```\n(.*?)```", text, re.DOTALL)]
    paths = {
        word.rstrip(",") for part in code for word in re.findall(r"[\w.-]+/[\w./-]*|[\w-]+\.(?:md|toml|cfg)", part)
    }
    targets = set(re.findall(r"\bmake ([a-z-]+)", " ".join(code)))
    known = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert len(paths) > 40
    assert [path for path in sorted(paths) if not (ROOT / path).exists() and not path.startswith(".venv")] == []
    assert targets >= {"test", "test-unit", "hooks", "lint"}
    assert targets <= known


def test_the_hooks_check_what_make_lint_checks() -> None:
    """Given the hooks before a commit, they run the tools of `make lint`, and from the same environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\nlint-python:")[1].split("\n\n")[0]
    tools = [line.split()[:2] for line in recipe.replace("$(BIN)", ".venv/bin").splitlines()[1:]]

    assert [tool for tool in tools if not any(hook.split()[: len(tool)] == tool for hook in hooks)] == []
    assert "make lint-ansible" in hooks


def test_the_default_redaction_is_documented() -> None:
    """Given the parts of key names that are redacted by default, each is named in the documentation."""
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")

    assert [part for part in DEFAULT_REDACTED if f"`{part}`" not in text] == []


def test_the_sizing_table_is_what_the_function_computes() -> None:
    """Given docs/operations.md, its table of Redis' memory by rate and time to live is the one that is computed."""
    text = (ROOT / "docs" / "operations.md").read_text()

    assert sizing_table() in text, "run `python -m tests.support.sizing_table` and put its output there"


def test_records_that_shrink_take_the_memory_of_their_two_parts() -> None:
    """Given a rate and times to live, the memory is that of the whole records, and of the brief ones behind them; ten
    minutes save two thirds of a day at least."""
    assert bytes_a_day(1, detail_ttl=86400) == 86400 * 370
    assert bytes_a_day(10, detail_ttl=600) == 10 * (600 * 370 + 86400 * 87)
    assert bytes_a_day(10, detail_ttl=600) * 3 < bytes_a_day(10, detail_ttl=86400)
