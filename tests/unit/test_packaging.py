"""The files of the packages say what the code does."""

from __future__ import annotations

import argparse
import configparser
import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.cli.main import build_parser
from ha_monitor.config.load import Setting, load, settings
from ha_monitor.config.schema import Config
from ha_monitor.version import __version__
from tests.support.example_configuration import example

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
EXAMPLE = PACKAGING / "ha-monitor.toml"


def commands() -> dict[str, list[str]]:
    """The program's commands, each with its options."""
    actions = build_parser()._actions
    found = next(action for action in actions if isinstance(action, argparse._SubParsersAction))
    return {
        name: [action.option_strings[-1] for action in parser._actions if action.option_strings]
        for name, parser in found.choices.items()
    }


def test_the_example_explains_the_schema_as_it_is() -> None:
    """Given the schema of the configuration, the packaged example is made from it to the letter."""
    assert EXAMPLE.read_text(encoding="utf-8") == example(), (
        "run `python -m tests.support.example_configuration >packaging/ha-monitor.toml`"
    )


def test_the_example_changes_nothing() -> None:
    """Given the example as it is installed, the program runs with its defaults."""
    assert load(EXAMPLE, {}) == Config()


def test_the_values_of_the_example_are_the_defaults(tmp_path: Path) -> None:
    """Given the example with every key uncommented, it is valid, complete, and still means the defaults."""
    path = tmp_path / "ha-monitor.toml"
    path.write_text(re.sub(r"(?m)^#(?=[a-z])", "", EXAMPLE.read_text(encoding="utf-8")), encoding="utf-8")

    assert load(path, {}) == Config()
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    assert [setting.dotted for setting in settings() if not _has(written, setting)] == []


def _has(written: dict[str, Any], setting: Setting) -> bool:
    return setting.key in (written[setting.section] if setting.section else written)


def test_the_manual_page_has_every_command_and_option() -> None:
    """Given the command line, each command and each option of it is in ha-monitor(8)."""
    text = (PACKAGING / "ha-monitor.8").read_text(encoding="utf-8").replace("\\-", "-")

    for command, options in commands().items():
        assert re.search(rf"^\.B ha-monitor {command}$", text, re.MULTILINE), command
        assert [option for option in options if option not in text] == [], command


@pytest.mark.parametrize("command", ["", *commands()])
def test_bash_completes_what_there_is(command: str) -> None:
    """Given bash with the completion, <Tab> after a command offers its options, and in the first place the commands."""
    words = f"ha-monitor {command} ''" if command else "ha-monitor ''"
    script = f"""
        . {PACKAGING / "ha-monitor.bash-completion"}
        COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _ha_monitor ha-monitor '' "${{COMP_WORDS[COMP_CWORD-1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """

    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    expected = commands()[command] if command else [*commands(), "--version", "--help"]
    assert sorted(result.stdout.split()) == sorted(expected)
    assert result.stderr == ""


def locked() -> dict[str, str]:
    """Name and version of each library in the lock file."""
    text = (PACKAGING / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def test_the_lock_has_every_dependency_with_a_hash_and_no_source() -> None:
    """Given the declared dependencies, each is locked and hashed, and nothing says where it is fetched from."""
    text = (PACKAGING / "requirements.lock").read_text(encoding="utf-8")
    setup = configparser.ConfigParser()
    setup.read(PACKAGING.parent / "setup.cfg")
    required = re.findall(r"^([a-z0-9-]+)", setup["options"]["install_requires"], re.MULTILINE)

    assert required
    assert set(required) <= set(locked())
    assert len(re.findall(r"^[a-z0-9-]+==.*\\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(locked())
    assert "://" not in text
    assert "index" not in text


def test_the_licences_of_all_libraries_are_named() -> None:
    """Given the libraries in the Debian package, debian/copyright has a paragraph for each."""
    text = (PACKAGING / "debian/copyright").read_text(encoding="utf-8")
    patterns = " ".join(re.findall(r"^Files: (.+)$", text, re.MULTILINE)).split()
    patterns.remove("*")

    missing = [
        name
        for name, version in locked().items()
        if not any(fnmatch.fnmatch(f"{name}-{version}", pattern) for pattern in patterns)
    ]

    assert missing == []


def test_the_debian_changelog_is_at_the_version_of_the_program() -> None:
    """Given the program's version, the newest entry of debian/changelog is about it."""
    first = (PACKAGING / "debian/changelog").read_text(encoding="utf-8").splitlines()[0]

    assert first == f"ha-monitor ({__version__}) unstable; urgency=medium"
