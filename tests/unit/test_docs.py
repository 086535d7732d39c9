"""The documentation says what the code does."""

from __future__ import annotations

from pathlib import Path

from ha_monitor.config.schema import DEFAULT_REDACTED
from tests.support.configuration_table import table

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_documented_as_it_is() -> None:
    """Given the schema of the configuration, its table in the documentation is the same to the letter."""
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")

    assert table() in text, "run `python -m tests.support.configuration_table` and put its output there"


def test_the_default_redaction_is_documented() -> None:
    """Given the parts of key names that are redacted by default, each is named in the documentation."""
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")

    assert [part for part in DEFAULT_REDACTED if f"`{part}`" not in text] == []
