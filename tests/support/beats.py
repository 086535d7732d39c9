"""Real `celery beat` as processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.support.forked import python_process
from tests.support.held_beat import LOADED
from tests.support.process import OwnProcess, wait_for_value, wait_until
from tests.support.workers import ROOT


class CeleryBeat:
    """A beat of the test application, in a folder of its own, where it keeps what it has sent."""

    def __init__(
        self,
        broker_url: str,
        settings: Mapping[str, Any],
        *,
        args: Sequence[str] = (),
        tasks: Sequence[str] = (),
        sends_sent: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param settings: more settings of Celery, `beat_schedule` above all.
        :param args: more for `celery beat`.
        :param tasks: of the entries that it sends together; those of its settings if none are given.
        """
        self.dir = Path(tempfile.mkdtemp(prefix="beat-"))
        self._begin = self.dir / "begin"
        self._command = ["tests.support.held_beat", str(self._begin)]
        self._command += ["-A", "tests.support.celery_app", "beat", "--loglevel", "DEBUG", "--pidfile", ""]
        self._command += args or ["-s", str(self.dir / "schedule")]
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TESTS_BROKER_URL": broker_url,
            "TESTS_SEND_SENT_EVENT": "1" if sends_sent else "",
            "TESTS_SETTINGS": json.dumps(settings),
            **(env or {}),
        }
        self._tasks = tasks or [entry["task"] for entry in settings["beat_schedule"].values()]
        self._process: OwnProcess | None = None
        self._starts = 0

    @property
    def process(self) -> OwnProcess:
        """The latest start."""
        if self._process is None:
            raise RuntimeError("beat was not started")
        return self._process

    def load(self) -> Self:
        """Have it load all that takes time, and wait at its very beginning."""
        self._begin.unlink(missing_ok=True)
        self._starts += 1
        self._process = python_process(self._command, self.dir / f"{self._starts}.log", env=self._env, cwd=self.dir)
        self._wait_for(LOADED)
        return self

    def start(self) -> Self:
        """Start it, at once if it is loaded, and wait until it runs."""
        if self._process is None or not self._process.running:
            self.load()
        self._begin.touch()
        self._wait_for("beat: Starting...")
        return self

    def wait_for_round(self) -> None:
        """Wait until it has just sent all entries, which are due together, and sleeps: what is done now is done between
        two due times. A beat that is stopped while it sends may hang, and lose what it has said that it sends.
        """
        before = max(self._sent().values())
        wait_until(lambda: self._sleeps(before), 60, f"all entries sent by this start of beat: {self._sent()}")

    def _sleeps(self, before: int = 0) -> bool:
        """Whether it has sent all entries equally often, more often than that, and waits for when they are due."""
        (first, *others) = self._sent().values()
        is_whole = first > before and all(other == first for other in others)
        return is_whole and "beat: Waking up" in self.process.output().rstrip().rpartition("\n")[2]

    def _sent(self) -> Counter[str]:
        """How often the latest start has sent each task."""
        found = Counter(re.findall(r"DEBUG/MainProcess\] (?:Scheduler: )?(\S+) sent\.", self.process.output()))
        return Counter({task: found[task] for task in self._tasks})

    def _wait_for(self, text: str) -> None:
        process = self.process

        def is_said() -> bool:
            if not process.running:
                raise RuntimeError(f"beat ended with {process.returncode}:\n{process.output()[-3000:]}")
            return text in process.output()

        wait_until(is_said, 60, f"beat: {text}")

    def kill(self) -> None:
        """End it with SIGKILL, between two due times, as `freeze` does."""
        self.freeze()
        self.process.kill()

    def freeze(self) -> None:
        """Keep it from running, between two due times: on a busy machine the next one may have come since it was seen
        to sleep, and of what is sent then only a part would be.
        """
        one = psutil.Process(self.process.pid)
        while True:
            self.wait_for_round()
            self.process.send(signal.SIGSTOP)
            wait_for_value(one.status, psutil.STATUS_STOPPED, 60, "a beat that is stopped")
            if self._sleeps():
                return
            self.thaw()

    def thaw(self) -> None:
        """Let it run on."""
        self.process.send(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it in an orderly way."""
        if self._process is not None and self._process.running:
            self._process.send(signal.SIGCONT)
            self._process.end(signal.SIGTERM, 30)

    def close(self) -> None:
        """Stop it, and remove its folder."""
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
