"""What a test session measured, as a table at its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Measured = Callable[[str, str], None]
"""Adds a row: what, and how much with its unit."""


class MeasuredTable:
    """Rows of what was measured, in the order of the tests."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows: list[tuple[str, str]] = []

    def add(self, what: str, value: str) -> None:
        self._rows.append((what, value))

    def show(self, reporter: pytest.TerminalReporter) -> None:
        """Write the table, if there is anything in it."""
        if not self._rows:
            return
        reporter.section(self._title)
        width = max(len(what) for what, _ in self._rows)
        for what, value in self._rows:
            reporter.write_line(f"{what:<{width}}  {value}")
