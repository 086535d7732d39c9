"""What a newcomer reads first: short, in order, with links that lead somewhere and commands that do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from ha_monitor.config.load import settings
from ha_monitor.demo import tasks
from tests.support.machine import patient

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINES: list[tuple[str, str, dict[str, object]]] = [
    ("task-succeeded", "info", {"task_name": "shop.fast", "task_id": "f", "runtime": 9.1e-05}),
    ("task-succeeded", "info", {"task_name": "shop.slow", "task_id": "s", "runtime": 120.5}),
    ("task-succeeded", "info", {"task_name": "shop.usual", "task_id": "u", "runtime": 9.05, "worker": "celery@app1"}),
    ("task-failed", "error", {"task_name": "shop.charge_card", "task_id": "c1", "error_group": "6b0677fc10"}),
    ("task-failed", "error", {"task_name": "shop.charge_card", "task_id": "c2", "error_group": "6b0677fc10"}),
    ("task-failed", "error", {"task_name": "shop.book_parcel", "task_id": "b"}),
    ("task-revoked", "warning", {"task_name": "shop.send_offer", "task_id": "o"}),
]
JOURNALCTL = f"""#!{sys.executable}
import json, sys

given = sys.argv[1:]
wanted = dict(word.split("=") for word in given if word.startswith("HA_"))
fields = {{"HA_EVENT": "event", "HA_TASK_NAME": "task_name", "HA_TASK_ID": "task_id", "HA_ERROR": "error_group",
          "HA_WORKER": "worker"}}
for raw in open("journal"):
    line = json.loads(raw)
    if "-p" in given and line["level"] != "error":
        continue
    if all(line.get(fields[field]) == value for field, value in wanted.items()):
        print(raw, end="")
"""
"""Knows a journal as the instances write it, and what the recipes ask of it."""


def recipes() -> dict[str, str]:
    """What is to be seen → the command, from the documentation."""
    table = (
        (ROOT / "docs/log.md").read_text(encoding="utf-8").partition("| to see | command |\n")[2].partition("\n\n")[0]
    )
    rows = re.findall(r"^\| ([^|]+) \| `(.*)` \|$", table, re.MULTILINE)
    return {seen: command.replace(r"\|", "|") for seen, command in rows}


EXPECTED = {
    "failures only": ["c1", "c2", "b"],
    "everything live, as JSON": ["f", "s", "u", "c1", "c2", "b", "o"],
    "one task, from all instances": ["u"],
    "all tasks of one name, last hour": ["c1", "c2"],
    "all errors of one group": ["c1", "c2"],
    "what one worker did, last hour": ["u"],
    "one kind of event": ["o"],
    "failures counted by task": ["2 shop.charge_card", "1 shop.book_parcel"],
    "the ten slowest tasks of the day": ["120.5\tshop.slow\ts", "9.05\tshop.usual\tu", "\tshop.fast\tf"],
}


def test_each_recipe_has_a_test() -> None:
    """Given the table of recipes, each is run below."""
    assert recipes().keys() == EXPECTED.keys()


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
@pytest.mark.parametrize("seen", EXPECTED)
def test_a_recipe_shows_what_it_promises(seen: str, tmp_path: Path) -> None:
    """Given a journal with lines of several tasks, the command shows those that it names, in the order that it names;
    so it does in a language that writes numbers with a comma."""
    journal = [json.dumps({"event": event, "level": level, **fields}) + "\n" for event, level, fields in LINES]
    (tmp_path / "journal").write_text("".join(journal), encoding="utf-8")
    stub = tmp_path / "journalctl"
    stub.write_text(JOURNALCTL, encoding="utf-8")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LC_NUMERIC": "de_DE.UTF-8"}

    done = subprocess.run(
        ["sh", "-c", recipes()[seen].replace("<uuid>", "u").replace("<error_group>", "6b0677fc10")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=patient(60), check=True,
    )  # fmt: skip

    assert done.stderr == ""
    if "jq -r" in recipes()[seen]:
        shown = [row.strip() for row in done.stdout.splitlines()]
        assert len(shown) == len(EXPECTED[seen])
        assert [row for row, end in zip(shown, EXPECTED[seen], strict=True) if not row.endswith(end.strip())] == []
    else:
        assert re.findall(r'"task_id": "(\w+)"', done.stdout) == EXPECTED[seen]


def test_the_readme_is_short_and_in_order() -> None:
    """Given the README, it has at most 1,500 words, and what a newcomer needs first comes first."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert len(text.split()) <= 1500
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Two commands",
        "Five minutes with your own Celery app",
        "What is guaranteed",
        "How it compares",
        "Install on a server",
        "Install on your fleet",
        "More",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    """Given a page, the files and headings that it links to exist."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (heading and heading not in anchors(file)):
            broken.append(target)

    assert broken == []


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_compose_file_names_what_there_is() -> None:
    """Given the compose file, the variables of its instances are settings, those of its worker are the demo's, the
    services that it waits for have a health check, and the files that it copies exist."""
    compose = yaml.safe_load((ROOT / "packaging/compose.yml").read_text(encoding="utf-8"))
    services = compose["services"]
    known = {setting.variable for setting in settings()}

    for name in ("monitor1", "monitor2", "monitor3"):
        assert set(services[name]["environment"]) <= known
    assert set(services["worker"]["environment"]) <= {tasks.BROKER, tasks.BACKEND}
    assert [
        name for one in services.values() for name in one.get("depends_on", {}) if "healthcheck" not in services[name]
    ] == []
    copied = re.findall(r"^COPY (.*) \S+$", compose["x-program"]["build"]["dockerfile_inline"], re.MULTILINE)
    assert [name for names in copied for name in names.split() if not (ROOT / name).exists()] == []
    assert len(copied) == 5
