"""The monitor instances of the demo, as separate processes."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ha_monitor.demo.process import Child


class Monitors:
    """Starts, kills and reads the instances. Their lines arrive in one queue, in the order in which they are read."""

    def __init__(self, names: list[str], environment: Mapping[str, str], folder: Path) -> None:
        """:param folder: their current folder."""
        self._environment = environment
        self._folder = folder
        self._children: dict[str, Child] = {}
        self._readers: list[threading.Thread] = []
        self.names = names
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "ha_monitor", "run", "--instance", name]
        child = self._children[name] = Child(command, self._environment, subprocess.PIPE, self._folder)
        reader = threading.Thread(target=self._read, args=(child,), name=f"reader-{name}", daemon=True)
        self._readers.append(reader)
        reader.start()

    def kill(self, name: str) -> int:
        """SIGKILL one; returns its process id."""
        child = self._children[name]
        child.kill()
        return child.pid

    def dead(self) -> list[str]:
        """Names of instances that are not running."""
        return [name for name, child in self._children.items() if not child.running]

    def end(self) -> None:
        """Stop all gracefully, and wait until their last lines have been read."""
        for child in self._children.values():
            child.ask_to_end()
        for child in self._children.values():
            child.end()
        for reader in self._readers:
            reader.join(5)

    def _read(self, child: Child) -> None:
        for raw in child.output:
            fields = _parsed(raw)
            if fields is not None:
                self.lines.put(fields)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """The fields of a line; only `text` for an error of the interpreter; None for the partial line of a killed one."""
    try:
        fields = json.loads(raw)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        return fields
    return {"text": raw.decode("utf-8", "replace").rstrip()} if raw.endswith(b"\n") else None
