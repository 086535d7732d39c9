"""Real `celery beat` as processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.process import OwnProcess, wait_until
from tests.support.workers import ROOT


class CeleryBeat:
    """A beat of the test application, in a folder of its own, where it keeps what it has sent."""

    def __init__(
        self,
        broker_url: str,
        settings: Mapping[str, Any],
        *,
        args: Sequence[str] = (),
        sends_sent: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """:param settings: more settings of Celery, `beat_schedule` above all. :param args: more for `celery beat`."""
        self.dir = Path(tempfile.mkdtemp(prefix="beat-"))
        self._command = [sys.executable, "-m", "celery", "-A", "tests.support.celery_app", "beat"]
        self._command += ["--loglevel", "INFO", "--pidfile", "", *(args or ["-s", str(self.dir / "schedule")])]
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TESTS_BROKER_URL": broker_url,
            "TESTS_SEND_SENT_EVENT": "1" if sends_sent else "",
            "TESTS_SETTINGS": json.dumps(settings),
            **(env or {}),
        }
        self._process: OwnProcess | None = None
        self._starts = 0

    @property
    def process(self) -> OwnProcess:
        """The latest start."""
        if self._process is None:
            raise RuntimeError("beat was not started")
        return self._process

    def start(self, settings: Mapping[str, Any] | None = None) -> Self:
        """Start it and wait until it runs. :param settings: in place of those before."""
        if settings is not None:
            self._env["TESTS_SETTINGS"] = json.dumps(settings)
        self._starts += 1
        process = self._process = OwnProcess(
            self._command, self.dir / f"{self._starts}.log", env=self._env, cwd=self.dir
        )

        def ready() -> bool:
            if not process.running:
                raise RuntimeError(f"beat ended with {process.returncode}:\n{process.output()[-3000:]}")
            return "beat: Starting..." in process.output()

        wait_until(ready, 60, "the start of beat", interval=0.05)
        return self

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()

    def freeze(self) -> None:
        """Keep it from running."""
        self.process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        self.process.send(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it in an orderly way."""
        if self._process is not None and self._process.running:
            self._process.send(signal.SIGCONT)
            self._process.end(signal.SIGTERM, 30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
