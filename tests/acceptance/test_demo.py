"""`ha-monitor demo` as a person runs it: it counts right, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from redis import Redis

from ha_monitor.demo.demo import SETTLED_WITHIN, WORKER_LOG
from tests.conftest import missing
from tests.support.machine import Timed, patient
from tests.support.process import ServiceMissing, program, wait_for_value, wait_until
from tests.support.services import PrivateRabbitMQ, free_port
from tests.support.web import get

ROOT = Path(__file__).resolve().parents[2]
TASKS = 300
DEADLINE = 150
"""Seconds; a demo takes 15 on an idle machine."""
PAGES = re.compile(r"the pages are at (http://127\.0\.0\.1:\d+/) ")
STAY = re.compile(r"the pages stay at (http://127\.0\.0\.1:\d+/) until \^C")


@pytest.fixture(autouse=True)
def redis_installed() -> None:
    try:
        program("redis-server")
    except ServiceMissing as error:
        missing(error)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The folder for temporary files of the demo."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def start(arguments: Sequence[str], temporary: Path, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ha_monitor", "demo", *arguments]
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), **variables}
    return subprocess.Popen(
        command, env=environment, cwd=temporary, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(arguments: Sequence[str], temporary: Path, **variables: str) -> tuple[int, list[str], str]:
    """Run it to its end: exit status, the lines of its output, its errors."""
    process = start(arguments, temporary, **variables)
    try:
        output, errors = process.communicate(timeout=patient(DEADLINE))
    finally:
        process.kill()
    return process.returncode, output.splitlines(), errors


def check(status: int, lines: list[str], errors: str) -> dict[str, Any]:
    """What holds on every broker; returns the summary."""
    assert lines, errors
    summary: dict[str, Any] = json.loads(lines[-1])
    expected = {"task-succeeded": 264, "task-failed": 30, "task-revoked": 6}
    # Where tasks are unfinished, the end of the worker's log comes before the summary.
    ended = f"{summary['outcomes']}, unfinished {summary['unfinished']}; the output ends with {lines[-8:-1]}"
    assert (summary["run"], summary["outcomes"], summary["unfinished"]) == (TASKS, expected, 0), ended
    assert (summary["announced"], summary["lost"], summary["wrong"], summary["nameless"]) == (TASKS, 0, 0, 0)
    # The one thing that a kill may do: the line was out, and Redis did not know it yet. Such a line is marked.
    assert summary["twice"] == summary["marked"]
    assert status == (1 if summary["twice"] else 0)
    assert list(summary["shares"]) == ["1", "2", "3"]
    assert all(summary["shares"].values())
    assert summary["killed"] == "2"
    assert sum("kill -9 of ha-monitor@2" in line for line in lines) == 1
    assert sum("starting ha-monitor@2 again" in line for line in lines) == 1
    assert any("ha-monitor@1 task-succeeded  shop.send_receipt" in line for line in lines)
    assert sum(bool(PAGES.search(line)) for line in lines) == 1
    assert not any("\x1b" in line for line in lines), "colours in a pipe"
    return summary


def test_redis_counts_right_whatever_the_user_has_configured(temporary: Path) -> None:
    """Given a user whose environment names other brokers and a broken file, when the demo runs on its own Redis, all
    tasks are announced once and by name although an instance is killed, every instance saw every task, and nothing
    stays behind."""
    broken = temporary.parent / "broken.toml"
    broken.write_text("this is no TOML")
    nowhere = f"amqp://127.0.0.1:{free_port()}//"

    status, lines, errors = run(
        ["--json", "--tasks", str(TASKS)],
        temporary,
        CELERY_BROKER_URL=nowhere,
        BROKER_URL=nowhere,
        CELERY_RESULT_BACKEND=nowhere,
        HA_MONITOR_CONFIG=str(broken),
        HA_MONITOR_LOG_FORMAT="console",
    )

    summary = check(status, lines, errors)
    assert (summary["dealt_out"], summary["even"], summary["split"]) == (False, None, TASKS)
    assert list(temporary.iterdir()) == []


@pytest.fixture
def vhost(rabbitmq: PrivateRabbitMQ) -> Iterator[tuple[str, str]]:
    """A virtual host's name and URL."""
    yield "demo", rabbitmq.add_vhost("demo")
    rabbitmq.delete_vhost("demo")


def names_of_the_demo(rabbitmq: PrivateRabbitMQ, vhost: str) -> list[str]:
    """Its queues and exchanges."""
    kinds = [f'rabbit_{module}:list(<<"{vhost}">>)' for module in ("amqqueue", "exchange")]
    names = f"[element(4, element(2, One)) || One <- {' ++ '.join(kinds)}]"
    found: list[str] = json.loads(rabbitmq.evaluate(f"iolist_to_binary(rabbit_json:encode({names}))."))
    return [name for name in found if "demo" in name]


def test_rabbitmq_shares_the_work_and_is_left_as_it_was(
    temporary: Path, rabbitmq: PrivateRabbitMQ, vhost: tuple[str, str]
) -> None:
    """Given somebody's RabbitMQ whose events a monitor receives, when the demo runs on it, the instances share the
    events, most tasks come in pieces to several of them and still have their names; the other monitor's queue gets
    nothing, and neither queues nor exchanges of the demo remain."""
    name, url = vhost
    with Connection(url) as connection:
        monitored = Queue("celeryev.real", Exchange("celeryev", type="topic"), routing_key="#")
        monitored(connection.default_channel).declare()
    status, lines, errors = run(["--json", "--tasks", str(TASKS), "--broker", url], temporary)

    summary = check(status, lines, errors)
    assert summary["dealt_out"]
    assert all(summary["early_shares"].values()), "an instance got nothing while all ran"
    assert summary["split"] > TASKS / 2
    assert {queue: state["messages"] for queue, state in rabbitmq.queues(name).items()} == {"celeryev.real": 0}
    assert names_of_the_demo(rabbitmq, name) == []
    assert list(temporary.iterdir()) == []


def found_in(output: Iterable[str], wanted: re.Pattern[str]) -> str:
    """Read until a line has it; what its group matches."""
    seen = []
    for line in output:
        seen.append(line)
        if found := wanted.search(line):
            return found[1]
    pytest.fail(f"no line has {wanted.pattern}: {seen}")


def test_its_pages_stay_until_they_are_not_wanted_any_more(temporary: Path) -> None:
    """Given --web, the pages are at the address that is printed, and show the tasks of the demo; after the summary they
    are there still, over monitors that look, until Ctrl-C. Then the exit status is that of the summary, and nothing
    stays behind."""
    process = start(["--tasks", "10", "--monitors", "1", "--web"], temporary)
    try:
        assert process.stdout is not None
        url = found_in(process.stdout, PAGES)
        port = int(url.rpartition(":")[2].strip("/"))
        assert get(port, "/").status == 200
        assert found_in(process.stdout, re.compile(r"tasks run +(\d+) ")) == "10"
        assert found_in(process.stdout, STAY) == url
        wait_until(lambda: "1 of 1 instances consume" in get(port, "/monitor").text, 30, "a monitor that looks", 0.2)
        listed = get(port, "/tasks").text
        kept = [one["name"] for one in get(port, "/api/v1/tasks").json["items"]]
        assert len(kept) == 10
        assert all(f">{name}<" in listed.replace("<wbr>", "") for name in kept)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 4, "Redis, a worker, a monitor, and the pages"

        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=patient(60))
    finally:
        process.kill()
        process.communicate()

    assert (process.returncode, errors) == (0, "")
    assert alive(children) == []
    assert list(temporary.iterdir()) == []


@contextmanager
def at_work(temporary: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    process = start(["--tasks", "100000", *arguments], temporary)
    try:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "task-succeeded" in line:
                break
        else:
            assert process.stderr is not None
            pytest.fail(f"no task was announced: {process.stderr.read()} {seen}")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 6, "Redis, a worker, three monitors, and the pages"
        yield process, children
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def running(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A demo in the middle of its work, and all processes below it."""
    with at_work(temporary) as started:
        yield started


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie has no parent here to reap it, and is dead."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up(
    running: tuple[subprocess.Popen[str], list[psutil.Process]], temporary: Path, number: signal.Signals
) -> None:
    """Given a demo at work, when it gets Ctrl-C (or is told to end, or its terminal is closed), it ends soon, and
    neither a process nor a temporary folder is left."""
    process, children = running

    with Timed() as timed:
        process.send_signal(number)
        output, errors = process.communicate(timeout=patient(60))

    assert process.returncode == 1
    assert timed.undisturbed < 30, timed
    assert output.splitlines()[-1].startswith("── stopped, and cleaned up")
    assert errors == ""
    assert alive(children) == []
    assert list(temporary.iterdir()) == []


def test_nothing_outlives_a_killed_demo(temporary: Path, rabbitmq: PrivateRabbitMQ, vhost: tuple[str, str]) -> None:
    """Given a demo at work on somebody's RabbitMQ, when it gets SIGKILL, so that it cannot clean up, all its processes
    end all the same; RabbitMQ deletes its queues and its exchange after a minute, and the next demo its folder."""
    name, url = vhost
    with at_work(temporary, "--broker", url) as (process, children):
        # Asked now: on a busy machine the answer may take longer than the queues are kept.
        assert names_of_the_demo(rabbitmq, name) != []
        process.kill()
        wait_until(lambda: not alive(children), 20, "the end of the children")
    left = list(temporary.iterdir())
    assert len(left) == 1

    run(["--tasks", "1", "--monitors", "1"], temporary)

    assert list(temporary.iterdir()) == []
    wait_until(lambda: not names_of_the_demo(rabbitmq, name), 120, "the end of queues and exchange")


def waiting_tasks(children: Iterable[psutil.Process]) -> int:
    """How many tasks of a demo on its own Redis no worker has taken."""
    (server,) = (one for one in children if one.name().startswith("redis-server"))
    (port,) = {one.laddr.port for one in server.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    with Redis(port=port) as store:
        return sum(int(store.llen(name)) for name in store.scan_iter("demo-*-tasks"))


def test_a_worker_that_dies_is_told_with_the_end_of_its_log(temporary: Path) -> None:
    """Given a demo whose Celery worker is killed while tasks wait, it sends nothing more and waits for no results: it
    counts the tasks without one, shows the last 20 lines of the worker's log, and its exit status is 1."""
    with at_work(temporary) as (process, children):
        (worker,) = (one for one in children if "celery" in one.cmdline())
        worker.send_signal(signal.SIGSTOP)
        wait_for_value(worker.status, psutil.STATUS_STOPPED, 60, "a worker that is stopped")
        wait_until(lambda: waiting_tasks(children) > 0, 60, "a task that waits")
        (log,) = temporary.glob(f"*/{WORKER_LOG}")
        written = [f"    {line}".rstrip() for line in log.read_text().splitlines()]
        with Timed() as timed:
            worker.kill()
            output, _ = process.communicate(timeout=patient(DEADLINE))

    assert timed.undisturbed < SETTLED_WITHIN
    assert process.returncode == 1
    lines = output.splitlines()
    (said,) = (number for number, line in enumerate(lines) if "some tasks have no result" in line)
    (summed,) = (number for number, line in enumerate(lines) if "lines of all instances add up to" in line)
    assert lines[said + 1 : summed] == written[-20:]
    assert re.search(r"sent, without a result +[1-9]\d* +WRONG", output)


def test_a_reader_who_leaves_is_no_trouble(
    running: tuple[subprocess.Popen[str], list[psutil.Process]], temporary: Path
) -> None:
    """Given `ha-monitor demo | head`, when head ends, so does the demo, without a traceback, and cleans up."""
    process, children = running
    assert process.stdout is not None
    assert process.stderr is not None

    process.stdout.close()

    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    assert alive(children) == []
    assert list(temporary.iterdir()) == []


def test_a_broker_that_is_not_there_is_one_line(temporary: Path) -> None:
    """Given the URL of no broker, the demo says so in one line without the password, and cleans up."""
    status, lines, errors = run(["--broker", f"amqp://me:hush@127.0.0.1:{free_port()}//"], temporary)

    assert status == 1
    assert not any("Traceback" in line for line in lines)
    assert errors.startswith("ha-monitor: the broker amqp://me:***@127.0.0.1:")
    assert "hush" not in errors
    assert errors.count("\n") == 1
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(shutil.which("script") is None, reason="needs the command script")
@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_colours_only_on_a_terminal_that_wants_them(temporary: Path, variable: str, coloured: bool) -> None:
    """Given a terminal, the demo is coloured; given NO_COLOR too, it is not."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "NO_COLOR": variable}
    command = f"{sys.executable} -m ha_monitor demo --tasks 10 --monitors 1"

    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "task-succeeded" in done.stdout
    assert ("\x1b[" in done.stdout) is coloured
