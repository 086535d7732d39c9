"""The files of the packages say what the code does."""

from __future__ import annotations

import argparse
import configparser
import fnmatch
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.cli.commands import commands_of
from ha_monitor.cli.main import build_parser
from ha_monitor.cli.shells import script
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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_is_made_from_the_command_line(shell: str) -> None:
    """Given the command line, the packaged completion of each shell is written from it to the letter."""
    made = script(shell, commands_of(build_parser()))
    path = PACKAGING / f"ha-monitor.{shell}-completion"

    assert path.read_text(encoding="utf-8") == made, f"run `ha-monitor completion {shell} >{path.name}` in packaging/"


@pytest.mark.parametrize(("shell", "check"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_a_shell_can_read_its_completion(shell: str, check: list[str]) -> None:
    """Given the shell, it finds no mistake in its completion."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")

    done = subprocess.run(
        [shell, *check, PACKAGING / f"ha-monitor.{shell}-completion"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def completed(typed: str, folder: Path, breaks: str = " =:") -> list[str]:
    """What <Tab> offers in bash behind a text, with a program that knows some values."""
    program = folder / "ha-monitor"
    program.write_text("#!/bin/sh\nprintf '%s\\n' shop.pay 'shop.$(touch x) b' mail\\\\,send\n", encoding="utf-8")
    program.chmod(0o755)
    words = [word for word in re.split(r"\s+|(=)", typed) if word]
    if typed[-1] in " =":
        words.append("")
    script = f"""
        PATH={shlex.quote(str(folder))}:$PATH; cd {shlex.quote(str(folder))}
        . {PACKAGING / "ha-monitor.bash-completion"}
        COMP_WORDBREAKS={shlex.quote(breaks)}; COMP_LINE={shlex.quote(typed)}; COMP_POINT=${{#COMP_LINE}}
        COMP_WORDS=({shlex.join(words)}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _ha_monitor ha-monitor "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """

    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    assert result.stderr == ""
    assert not (folder / "x").exists(), "a value was run as a command"
    return sorted(result.stdout.splitlines())


@pytest.mark.parametrize("command", ["", *commands()])
def test_bash_completes_what_there_is(command: str, tmp_path: Path) -> None:
    """Given bash with the completion, <Tab> after a command and a dash offers its options, and in the first place the
    commands."""
    offered = completed(f"ha-monitor {command} -" if command else "ha-monitor ", tmp_path)

    assert offered == sorted(commands()[command] if command else [*commands(), "--version", "--help"])


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ha-monitor tasks sta", ["state="]),
        ("ha-monitor tasks state=FA", ["FAILURE"]),
        ("ha-monitor tasks state!=FA", ["FAILURE"]),
        (
            "ha-monitor tasks state=FAILURE,RE",
            ["FAILURE,RECEIVED", "FAILURE,REJECTED", "FAILURE,RETRY", "FAILURE,REVOKED"],
        ),
        ("ha-monitor tasks name=shop.p", ["shop.pay"]),
        # What a task is called is never run.
        ("ha-monitor tasks name=", ["mail\\\\\\,send", "shop.\\$\\(touch\\ x\\)\\ b", "shop.pay"]),
        ("ha-monitor tasks incomplete=", ["no", "yes"]),
        ("ha-monitor tasks -o js", ["json", "jsonl"]),
        ("ha-monitor tasks --output=js", ["json", "jsonl"]),
        ("ha-monitor tasks --time ", ["local", "relative", "utc"]),
        ("ha-monitor tasks --since ", [""]),
        ("ha-monitor workers shop.p", ["shop.pay"]),
        ("ha-monitor completion ", ["bash", "fish", "zsh"]),
        ("ha-monitor check ", ["--config", "--help", "--instance", "--online", "--store"]),
    ],
)
def test_bash_completes_values(typed: str, offered: list[str], tmp_path: Path) -> None:
    """Given bash with the completion, <Tab> offers the values that fit what is typed so far."""
    assert completed(typed, tmp_path) == offered


def test_bash_completes_a_word_that_it_does_not_break(tmp_path: Path) -> None:
    """Given a bash that does not break words at `=`, the whole word is offered."""
    assert completed("ha-monitor tasks state=FA", tmp_path, breaks=" ") == ["state=FAILURE"]


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


def test_the_packages_have_every_script() -> None:
    """Given all scripts of the store, whatever their folder, the patterns of the package's data match each."""
    package = PACKAGING.parent / "ha_monitor"
    setup = configparser.ConfigParser()
    setup.read(PACKAGING.parent / "setup.cfg")
    patterns = setup["options.package_data"]["ha_monitor"].split()
    packaged = {path for pattern in patterns for path in package.glob(pattern)}

    assert set(package.rglob("*.lua")) <= packaged


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
