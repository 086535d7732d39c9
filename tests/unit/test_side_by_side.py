"""What `make test` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.side_by_side import SESSIONS, Session

ROOT = Path(__file__).parents[2]


def test_every_test_is_in_one_session() -> None:
    """Given all files with tests, each is run by exactly one of the sessions."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
    folders = [Path(folder) for paths in SESSIONS.values() for folder in paths]

    runs = {file: sum(file.is_relative_to(folder) for folder in folders) for file in files}

    assert len(files) > 50
    assert [str(file) for file, count in runs.items() if count != 1] == []


def test_what_failed_is_kept_for_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a session on CI in which one test fails, its line says which and why, and the status is pytest's."""
    monkeypatch.setenv("CI", "true")
    (tmp_path / "test_it.py").write_text(
        "def test_good():\n    pass\n\ndef test_bad():\n    assert 1 == 2, 'no such luck'\n"
    )

    session = Session("sample", (str(tmp_path),), ["-rA"])
    status = session.wait()

    assert status == 1
    (failure,) = session.failures
    assert failure.startswith("FAILED ")
    assert "test_it.py::test_bad - AssertionError: no such luck" in failure
    printed = capfd.readouterr().out.splitlines()
    assert any(line.startswith("sample   | PASSED ") and line.endswith("::test_good") for line in printed)
