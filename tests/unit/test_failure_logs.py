"""What the report of a failed test shows of the logs."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.logs import COLUMNS, FILES, LINES, ends_of_logs


def test_the_latest_lines_of_the_latest_logs_are_shown(tmp_path: Path) -> None:
    """Given more logs, lines and columns than are shown, the last ones are, and what is no text harms nothing."""
    for number in range(FILES + 1):
        log = tmp_path / f"{number}.log"
        log.write_bytes(b"\xff" + b"x" * 2 * COLUMNS + b"\n" + b"\n".join(b"%d" % line for line in range(1, LINES + 1)))
        os.utime(log, (number, number))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "last.log").write_bytes(b"\xff" + b"x" * 2 * COLUMNS)

    shown = ends_of_logs(tmp_path).splitlines()

    assert [line for line in shown if line.startswith("---")] == [
        *(f"--- {number}.log" for number in range(2, FILES + 1)),
        "--- below/last.log",
    ]
    assert shown[1 : LINES + 1] == [str(line) for line in range(1, LINES + 1)]
    assert shown[-1] == "\ufffd" + "x" * (COLUMNS - 1)


def test_a_test_without_logs_shows_nothing(tmp_path: Path) -> None:
    assert ends_of_logs(tmp_path) == ""
