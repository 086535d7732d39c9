"""What a test does where a tool or a right is missing: elsewhere it is skipped, on CI it fails."""

from __future__ import annotations

import os
import shutil

import pytest


def need(*commands: str, root: bool = False) -> None:
    """Skip the test unless these commands are installed (and it runs as root); on CI fail instead."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [command for command in commands if shutil.which(command, path=path) is None]
    if root and os.geteuid() != 0:
        missing.append("root")
    if not missing:
        return
    reason = f"this test needs {', '.join(missing)}"
    if os.environ.get("CI"):
        pytest.fail(f"on CI nothing may be missing: {reason}", pytrace=False)
    pytest.skip(reason)
