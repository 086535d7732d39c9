"""`check`, `status` and the rest of the command line, as a person calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit, urlunsplit

import pytest

from ha_monitor.version import __version__
from tests.support.instances import declare_event_exchange
from tests.support.machine import patient
from tests.support.process import OwnProcess, free_port, wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.rights import as_monitor


def command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HA_MONITOR_")}
    given = {f"HA_MONITOR_{key.upper()}": value for key, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "ha_monitor", *arguments],
        env={**inherited, **given},
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )


def test_a_wrong_password_is_reported_once(broker_url: str, store_url: str) -> None:
    """Given a broker that refuses the password, check says so in one line, though it cannot ask the workers either."""
    user, _, rest = as_monitor(broker_url).partition("@")
    wrong = f"{user.rpartition(':')[0]}:hunter22@{rest}"

    checked = command("check", "--online", broker_url=wrong, store_url=as_monitor(store_url))

    assert checked.returncode == 78
    assert checked.stdout.count("the user name or password in broker.url is wrong") == 1
    assert [row for row in checked.stdout.splitlines() if " workers: " in row] == []


@pytest.mark.parametrize(
    ("setting", "change", "said"),
    [
        ("broker_url", lambda parts: parts._replace(path="/nowhere"), "vhost nowhere not found"),
        ("store_url", lambda parts: parts._replace(path="/99"), "DB index is out of range"),
        (
            "store_url",
            lambda parts: parts._replace(netloc=f"nobody:hunter22@{parts.netloc.rpartition('@')[2]}"),
            "the user name or password in store.url is wrong",
        ),
        (
            "broker_url",
            lambda parts: parts._replace(netloc="u:hunter22@no-such-host.invalid"),
            "the name of this host cannot be resolved (Name or service not known): correct broker.url",
        ),
        (
            "store_url",
            lambda parts: parts._replace(netloc="u:hunter22@no-such-host.invalid"),
            "the name of this host cannot be resolved (Name or service not known): correct store.url",
        ),
    ],
    ids=["an unknown vhost", "a database that there is not", "an unknown user", "no such broker", "no such store"],
)
def test_what_waiting_does_not_mend_is_a_wrong_configuration(
    broker_url: str, store_url: str, setting: str, change: Callable[[SplitResult], SplitResult], said: str
) -> None:
    """Given a broker and a store that answer and refuse what the configuration names, or no such host, check ends as
    with any wrong configuration; the status for what may pass is that of a service that is away.
    """
    urls = {"broker_url": as_monitor(broker_url), "store_url": as_monitor(store_url)}
    urls[setting] = urlunsplit(change(urlsplit(urls[setting])))

    checked = command("check", "--online", **urls)

    assert (checked.returncode, said in checked.stdout) == (78, True), checked
    assert "hunter22" not in checked.stdout


def test_check_and_status_of_a_running_instance(broker_url: str, store_url: str, tmp_path: Path) -> None:
    """Given a running instance, check finds broker, queue and store in order, and status shows it as consuming."""
    declare_event_exchange(broker_url)
    urls = {"broker_url": as_monitor(broker_url, broker=True), "store_url": as_monitor(store_url)}
    assert command("status", **urls).returncode == 1, "no instance runs yet"
    env = {**os.environ, **{f"HA_MONITOR_{name.upper()}": url for name, url in urls.items()}}
    process = OwnProcess([sys.executable, "-m", "ha_monitor", "run"], tmp_path / "log", env=env)
    try:
        wait_for_value(lambda: command("status", **urls).returncode, 0, 60, "the instance consuming")

        check = command("check", "--online", **urls)
        status = command("status", **urls)
        fleet = json.loads(command("status", "--json", **urls).stdout)
        other = command("check", "--online", queue_message_ttl="100", **urls)
    finally:
        process.end()

    assert check.returncode == 0
    assert "is as configured" in check.stdout
    assert "1 instances of node_id ha-monitor are running" in check.stdout
    assert "celeryev.ha-monitor: 0 messages, 1 consumers" in status.stdout
    assert [(one["instance"], one["alive"], one["state"]) for one in fleet["instances"]] == [("1", True, "consuming")]
    assert fleet["queue"]["consumers"] == 1
    assert other.returncode == 78
    assert "exists with a different x-message-ttl: 43200000" in other.stdout
    assert "set queue.message_ttl = 43200" in other.stdout


def test_no_worker_writes_a_row_of_its_own(broker_url: str, store_url: str, tmp_path: Path) -> None:
    """Given a worker and a task with hostile names, status, check and the log show them, and no terminal obeys them."""
    name = "celery@a\n\x1b[2J\x9b31m\u202e\x7f\nok       store: Redis 7.2 answers"
    now = {"hostname": name, "utcoffset": 0, "pid": 7, "clock": 1, "timestamp": time.time()}
    beat = {**now, "type": "worker-heartbeat", "freq": 2.0, "active": 0, "processed": 0, "sw_ident": name}
    failed = {**now, "type": "task-failed", "uuid": name, "exception": name, "traceback": name}
    urls = {"broker_url": broker_url, "store_url": store_url}
    # One heartbeat must do until all commands have been called.
    urls |= {"workers_late_after": "3600", "workers_lost_after": "7200"}
    own = {f"HA_MONITOR_{key.upper()}": value for key, value in urls.items()}
    env = {**os.environ, **own, "HA_MONITOR_LOG_FORMAT": "console", "HA_MONITOR_STORE_NAME_WAIT": "0"}
    log = tmp_path / "log"
    process = OwnProcess([sys.executable, "-m", "ha_monitor", "run"], log, env=env)
    try:
        wait_for_value(lambda: command("status", **urls).returncode, 0, 60, "the instance consuming")
        keys = {"worker.heartbeat": beat, "task.failed": failed}
        publish(broker_url, [Recorded(key, "application/json", "utf-8", json.dumps(e)) for key, e in keys.items()])
        wait_until(lambda: "celery@a" in command("status", **urls).stdout, 60, "the worker")
        wait_until(lambda: "task-failed" in log.read_text(encoding="utf-8"), 60, "the line of the task")
        written = [command(*call, **urls).stdout for call in (["status"], ["status", "--json"], ["check", "--online"])]
        written.append(log.read_text(encoding="utf-8"))
    finally:
        process.end()

    for text in written:
        assert "celery@a" in text
        assert [character for character in text if not character.isprintable() and character != "\n"] == []
    rows = [row for text in written for row in text.splitlines() if row.startswith("ok       store")]
    assert [row for row in rows if "7.2 answers" in row and "celery" not in row] == []


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "text"),
    [
        (["--version"], {}, 0, f"ha-monitor {__version__}"),
        (["--help"], {}, 0, "examples:"),
        (["check"], {}, 0, "configuration: valid"),
        (["check"], {"log_level": "loud"}, 78, "log.level = loud: expected one of debug, info, warning, error"),
        (["check"], {"result_backend_url": "nonsense://u:hunter22@h"}, 78, "result_backend.url: "),
        (
            ["check", "--online"],
            {"result_backend_url": "redis://:hunter22@127.0.0.1:{port}/0", "store_url": "redis://127.0.0.1:{port}/0"},
            1,
            "the result backend cannot be read: 127.0.0.1:{port}/0: Connection refused",
        ),
        (
            ["check"],
            {"store_url": "postgres://:hunter22@h/0"},
            78,
            "expected redis://, rediss://, unix:// or sentinel://",
        ),
        (["check"], {"store_url": "sentinel://:hunter22@h"}, 78, "store.url = sentinel://:***@h"),
        (["probelms"], {}, 64, "probelms: unknown command, did you mean problems? The commands are run, "),
        (["run", "--instance", ""], {}, 64, "argument --instance: '': expected up to 100 letters, digits"),
        (["check", "--instance", "a/b"], {}, 64, "argument --instance: 'a/b': expected up to 100 letters, digits"),
        (["status"], {"store_url": "redis://:hunter22@127.0.0.1:{port}/0"}, 69, "Connection refused"),
        (["check", "--online"], {"store_url": "redis://:hunter22@127.0.0.1:{port}/0"}, 1, "failed"),
        (
            ["status"],
            {"store_url": "redis://:hunter22@127.0.0.1:{port}/0"},
            69,
            "Connection refused (store.url is from environment: HA_MONITOR_STORE_URL)",
        ),
        (
            ["check"],
            {"broker_url": "redis://:hunter22@h/abc"},
            78,
            "ha-monitor: environment: HA_MONITOR_BROKER_URL: broker.url = redis://:***@h/abc: expected a number as",
        ),
        (
            ["status"],
            {"store_url": "redis://:hunter22@h:99999/0"},
            78,
            "ha-monitor: environment: HA_MONITOR_STORE_URL: store.url = redis://:***@h:99999/0: expected a port from",
        ),
        (
            ["run"],
            {"broker_url": "amqp://h:99999//"},
            78,
            "environment: HA_MONITOR_BROKER_URL: broker.url = amqp://h:99999//: expected a port from",
        ),
        (
            ["demo", "--broker", "amqp://u:hunter22@h:99999//"],
            {},
            78,
            "ha-monitor: --broker: broker.url = amqp://u:***@h:99999//: expected a port from 1 to 65535",
        ),
        (
            ["check"],
            {"http_listen": "127.0.0.1:99999"},
            78,
            "HTTP_LISTEN: http.listen = 127.0.0.1:99999: '99999' is not",
        ),
        (
            ["check"],
            {"store_url": "redis://h/0?db=x"},
            78,
            "redis://h/0?db=x: Invalid value for 'db' in connection URL",
        ),
        (["check", "--instance", "x" * 300], {}, 64, "xx': expected up to 100 letters, digits"),
        (["check", "--config", f"/tmp/{'x' * 300}"], {}, 78, "xx: cannot be read: File name too long"),
        (["status"], {"store_url": f"redis://{'x' * 300}/0"}, 78, "expected the name or the address of a host"),
        (["check"], {"store_url": "redis://h/0"}, 0, "store.url is from environment: HA_MONITOR_STORE_URL"),
    ],
)
def test_each_ending_has_its_status(arguments: list[str], settings: dict[str, str], status: int, text: str) -> None:
    """Given a call, its exit status is the documented one, its text says why, and no password is shown."""
    port = str(free_port())
    result = command(*arguments, **{key: value.replace("{port}", port) for key, value in settings.items()})

    said = text.replace("{port}", port)
    assert (result.returncode, said in result.stdout + result.stderr) == (status, True), result
    assert "hunter22" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("closed", "status"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("--instance / 2>&-", 64)])
def test_an_output_that_is_closed_is_no_bug(closed: str, status: int) -> None:
    """Given a shell that closed standard output or error, a command works and says nothing there."""
    script = f"exec {sys.executable} -m ha_monitor check {closed}"

    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=patient(60), check=False)

    assert done.returncode == status
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
def test_no_character_set_is_a_bug(encoding: str) -> None:
    """Given an output that is not UTF-8, foreign characters in an error are one line in that character set."""
    done = subprocess.run(
        [sys.executable, "-m", "ha_monitor", "check", "--instance", "é\N{SNOWMAN}"],
        env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=patient(60), check=False,
    )  # fmt: skip

    shown = done.stderr.decode(encoding)
    assert done.returncode == 64
    assert shown.count("\n") == 1
    assert "expected up to 100 letters" in shown
