"""What `make test` runs."""

from __future__ import annotations

from pathlib import Path

from tests.side_by_side import SESSIONS

ROOT = Path(__file__).parents[2]


def test_every_test_is_in_one_session() -> None:
    """Given all files with tests, each is run by exactly one of the sessions."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
    folders = [Path(folder) for paths in SESSIONS.values() for folder in paths]

    runs = {file: sum(file.is_relative_to(folder) for folder in folders) for file in files}

    assert len(files) > 50
    assert [str(file) for file, count in runs.items() if count != 1] == []
