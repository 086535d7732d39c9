"""Real Celery workers as processes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.forked import python_process
from tests.support.process import OwnProcess, wait_until

ROOT = Path(__file__).resolve().parents[2]


Pool = Literal["prefork", "threads", "solo"]


class CeleryWorker:
    """A worker of the test application, ready to take tasks once the context is entered."""

    def __init__(
        self,
        broker_url: str,
        name: str = "worker",
        *,
        host: str = "%h",
        pool: Pool = "prefork",
        concurrency: int = 2,
        result_backend: str = "",
        send_sent_event: bool = False,
        confirm_publish: bool = False,
        task_events: bool = True,
        queues: Sequence[str] = ("celery",),
        python: str | Path = sys.executable,
        root: Path = ROOT,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a worker.

        :param task_events: whether it sends task events.
        :param host: the part of the node name after the ``@``; ``%h`` is this machine's name.
        :param confirm_publish: sends an event again that RabbitMQ did not confirm: what is sent while RabbitMQ is
            stopped in good order is not lost, so that the tests know what must arrive. Not with threads.
        :param python: another virtual environment's interpreter, for a worker of another Celery.
        :param root: folder from which ``tests`` is imported.
        :param args: more arguments for ``celery worker``.
        """
        self.nodename_template = f"{name}@{host}"
        self.dir = Path(tempfile.mkdtemp(prefix=f"worker-{name}-"))
        self._python = str(python)
        self._arguments = ["celery", "-A", "tests.support.celery_app", "worker"]
        self._arguments += ["-E"] if task_events else []
        self._arguments += ["--pool", pool, "--concurrency", str(concurrency), "-n", self.nodename_template]
        self._arguments += ["-Q", ",".join(queues), "--without-mingle", "--without-gossip", "--loglevel", "INFO"]
        self._arguments += args
        self._env = {
            **os.environ,
            "PYTHONPATH": str(root),
            "TESTS_BROKER_URL": broker_url,
            "TESTS_RESULT_BACKEND": result_backend,
            "TESTS_SEND_SENT_EVENT": "1" if send_sent_event else "",
            "TESTS_CONFIRM_PUBLISH": "1" if confirm_publish else "",
            "TESTS_SEND_TASK_EVENTS": "0",  # as by default; -E switches them on
            **(env or {}),
        }
        self._process: OwnProcess | None = None
        self._starts = 0

    @property
    def process(self) -> OwnProcess:
        """The worker's main process, the latest if it was started again."""
        if self._process is None:
            raise RuntimeError("the worker was not started")
        return self._process

    @property
    def pid(self) -> int:
        """Id of the main process: the ``pid`` of the worker's events."""
        return self.process.pid

    @property
    def nodename(self) -> str:
        """The node name as it appears in events."""
        for line in self.log().splitlines():
            if line.endswith(" ready."):
                return line.split()[-2]
        raise RuntimeError("the worker is not ready")

    def log(self) -> str:
        """What it has logged since its latest start."""
        return self.process.output()

    def start(self, timeout: float = 60) -> Self:
        """Start it and wait until it takes tasks; its worker-online event has been sent by then."""
        self._starts += 1
        # In a folder of its own, so that nothing is imported from the current folder by chance.
        process = self._process = python_process(
            self._arguments,
            self.dir / f"{self._starts}.log",
            python=self._python,
            env=self._env,
            cwd=self.dir,
            # Not SIGKILL, after which the pool's processes would live on.
            death_signal="TERM",
        )

        def ready() -> bool:
            if not process.running:
                raise RuntimeError(f"the worker ended with {process.returncode}:\n{process.output()[-3000:]}")
            return " ready.\n" in process.output()

        wait_until(ready, timeout, "the start of the worker", interval=0.05)
        return self

    def stop(self, timeout: float = 30) -> None:
        """Stop it in an orderly way: it finishes the running tasks and says worker-offline."""
        if self._process is not None:
            self._process.end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End it and its pool with SIGKILL: no event tells of it."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Stop it and its pool from running, heartbeats included."""
        self.process.send_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on."""
        self.process.send_all(signal.SIGCONT)

    def close(self) -> None:
        """End it for good, and remove its logs."""
        if self._process is not None:
            self._process.send_all(signal.SIGCONT)
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
