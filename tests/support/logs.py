"""The logs of what a test has started, for the report of its failure."""

from __future__ import annotations

from pathlib import Path

FILES, LINES, COLUMNS = 8, 25, 400


def ends_of_logs(folder: Path) -> str:
    """The last lines of the logs in a folder, the latest logs last."""
    logs = sorted(folder.rglob("*.log"), key=lambda log: log.stat().st_mtime)[-FILES:]
    return "\n".join(f"--- {log.relative_to(folder)}\n{_end_of(log)}" for log in logs)


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
    return "\n".join(line[:COLUMNS] for line in lines)
