"""A reload applies what can be applied, and says what needs a restart."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ha_monitor.config.schema import Config, LogLevel
from ha_monitor.config.schema import Handlers as HandlerSettings
from ha_monitor.config.schema import Log as LogSettings
from ha_monitor.service import FIXED, Service

APPLIED = {"log", "handlers"}
"""The sections that a reload applies; `log.format` alone is not, which `restart-required` says."""


class Instance:
    """An instance that was put together, and never started."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.config = config
        self._lines = (folder / "lines").open("w+b")
        self.service = Service(config, "1", {}, reread=lambda: self.config, output=self._lines.fileno())

    def said(self, event: str) -> list[dict[str, Any]]:
        self._lines.seek(0)
        return [line for line in map(json.loads, self._lines) if line["event"] == event]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of handlers, and one that it imports."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    (tmp_path / "reload_sms.py").write_text("def send(): return 1\n")
    (tmp_path / "reload_alerts.py").write_text(
        "import reload_sms\nfrom ha_monitor import on\n@on('*')\ndef alert(event, task): reload_sms.send()\n"
    )
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("file", ["reload_alerts.py", "reload_sms.py"])
def test_changed_code_of_handlers_needs_a_restart(modules: Path, tmp_path: Path, file: str) -> None:
    """Given a handler's file, or one that it imports, that has changed, each reload says that a restart is needed for
    it: the code that runs is still the old one. Given an unchanged one, no reload says so.
    """
    instance = Instance(tmp_path, Config(handlers=HandlerSettings(modules=["reload_alerts"])))
    instance.service.read_again()
    assert instance.said("restart-required") == []

    (modules / file).write_text((modules / file).read_text() + "# changed\n")
    instance.service.read_again()
    instance.service.read_again()

    assert [line["changed"] for line in instance.said("restart-required")] == [[str(modules / file)]] * 2


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "raise KeyboardInterrupt", "raise ValueError('two\\nlines')", "def f(:", "x = 1"]
)
def test_handlers_that_cannot_be_used_change_nothing(modules: Path, tmp_path: Path, code: str) -> None:
    """Given a reload that names a module of handlers that cannot be used, one line says why, and nothing is replaced;
    given one that can, the next reload takes it.
    """
    instance = Instance(tmp_path, Config(handlers=HandlerSettings(modules=["reload_alerts"])))
    instance.config = Config(handlers=HandlerSettings(modules=["reload_alerts", "reload_broken"]))
    (modules / "reload_broken.py").write_text(code)

    assert instance.service.read_again() is None
    (line,) = instance.said("reload-failed")
    assert line["reason"].startswith("handlers.modules: reload_broken ")
    assert line["reason"].isprintable()

    instance.config = Config(handlers=HandlerSettings(modules=["reload_alerts", "reload_mended"]))
    (modules / "reload_mended.py").write_text("from ha_monitor import on\nf = on('*')(lambda event, task: ...)\n")
    importlib.invalidate_caches()
    assert instance.service.read_again() is not None


def test_the_number_of_dead_letters_is_applied(tmp_path: Path) -> None:
    """Given another `handlers.dead_letters`, a reload applies it."""
    instance = Instance(tmp_path, Config(handlers=HandlerSettings(dead_letters=7)))
    instance.config = Config(handlers=HandlerSettings(dead_letters=8))

    parts = instance.service.read_again()

    assert parts is not None
    assert parts.handlers.keep_dead_letters == 8
    assert instance.said("restart-required") == []


def test_a_change_of_the_level_is_said_whichever_way_it_goes(tmp_path: Path) -> None:
    """Given a reload that raises the level, one that changes nothing, and one that lowers it again, the first and the
    last have their line; between them there is none, as the level wants it.
    """
    instance = Instance(tmp_path, Config())
    for level in (LogLevel.ERROR, LogLevel.ERROR, LogLevel.INFO):
        instance.config = Config(log=LogSettings(level=level))
        assert instance.service.read_again() is not None

    assert [line["log_level"] for line in instance.said("reloaded")] == ["error", "info"]


def test_each_section_is_applied_or_needs_a_restart() -> None:
    """Given the schema, each part of it is among those that a reload applies or among those that need a restart."""
    assert {field.name for field in msgspec.structs.fields(Config)} == APPLIED | set(FIXED)
    assert not APPLIED & set(FIXED)
