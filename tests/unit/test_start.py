"""A command imports what it needs, and no more: half a second of a core lies between the two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ha_monitor.cli.main import main

pytestmark = pytest.mark.thorough

LIBRARIES = {"celery", "kombu", "amqp", "redis", "redis.asyncio", "prometheus_client", "structlog"}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        pytest.param(["--version"], set(), id="version"),
        pytest.param(["--help"], set(), id="help"),
        pytest.param(["units", "--output", "{folder}", "--prefix", "/opt/ha-monitor"], set(), id="units"),
        pytest.param(["tasks", "state=FAILURE"], {"redis"}, id="tasks"),
        pytest.param(["tasks", "stat=FAILURE"], set(), id="a wrong filter"),
        pytest.param(["task", "8d3b"], {"redis"}, id="task"),
        pytest.param(["workers"], {"redis"}, id="workers"),
        pytest.param(["completion", "bash"], set(), id="completion"),
        # It asks the store for the fleet first; only then, if that is there, the broker for the queue.
        pytest.param(["status"], {"redis"}, id="status"),
    ],
)
def test_a_command_imports_no_library_that_it_does_not_use(
    arguments: list[str], needed: set[str], tmp_path: object
) -> None:
    """Given a command, when it has ended, of the large libraries those are imported that it works with."""
    command = [argument.format(folder=tmp_path) for argument in arguments]
    script = f"""
import sys
from ha_monitor.cli.main import main
try:
    main({command!r})
except SystemExit:
    pass
print("imported:", *sorted({LIBRARIES!r} & set(sys.modules)), file=sys.stderr)
"""
    # A store that nobody is at: port 9 is never listened on.
    environment = {"HA_MONITOR_STORE_URL": "redis://127.0.0.1:9/0", "HA_MONITOR_BROKER_URL": "amqp://127.0.0.1:9//"}

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stderr.splitlines()[-1].split()[1:] == sorted(needed)


@pytest.mark.parametrize(
    ("arguments", "runs_for_long"),
    [
        (["--version"], False),
        (["tasks", "state=FAILURE"], False),
        # As the configuration is wrong, these end at once.
        (["run"], True),
        (["web"], True),
    ],
)
def test_only_what_runs_for_long_has_cycles_looked_for(arguments: list[str], runs_for_long: bool) -> None:
    """Given the program, a command that is soon over does not have Python look through all that it imported, neither
    while it works nor at its end; an instance and the pages have what they make looked through, and not what they
    imported.
    """
    script = f"""
import gc, sys
from ha_monitor.__main__ import main
from ha_monitor.cli import garbage_collection
freeze_at_exit, frozen = garbage_collection.freeze_at_exit, []
def at_the_end():
    frozen.append(gc.get_freeze_count())
    freeze_at_exit()
    frozen.append(gc.get_freeze_count())
garbage_collection.freeze_at_exit = at_the_end
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit:
    pass
looked = gc.get_stats()[2]["collections"]
is_service = gc.get_threshold()[0] == garbage_collection.SERVICE_THRESHOLD
print("looked:", is_service, looked, *(count > 10_000 for count in frozen))
"""
    environment = {"HA_MONITOR_STORE_URL": "http://x", "HA_MONITOR_BROKER_URL": "http://x"}

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    last = done.stdout.splitlines()[-1].split()
    assert last == ["looked:", str(runs_for_long), "0", str(runs_for_long), "True"]


@pytest.mark.parametrize(("command", "where"), [("check", "stderr"), ("run", "stdout")])
def test_whoever_would_tell_nobody_is_not_started(command: str, where: str, tmp_path: Path) -> None:
    """Given a route for a kind of incidents that there is not, `check` and `run` refuse it, and say where it is."""
    file = tmp_path / "ha-monitor.toml"
    file.write_text(
        '[broker]\nurl = "amqp://127.0.0.1:9//"\n[store]\nurl = "redis://127.0.0.1:9/0"\n'
        '[notify.channels.tell]\ntype = "exec"\ncommand = ["tell"]\n'
        '[[notify.routes]]\nchannels = ["tell"]\nkinds = ["worker_lost"]\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "ha_monitor", command, "--config", str(file)],
        env={}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    said = f"{file}: notify.routes[0].kinds: no kind of incident fits worker_lost, did you mean worker-lost?"
    assert (done.returncode, said in getattr(done, where)) == (78, True)


def test_a_channel_that_no_route_leads_to_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given routes and a channel that is in none of them, `check` says that it is told of nothing; it says that neither
    of a heartbeat, which needs no route, nor where there are no routes at all."""
    file, channels = tmp_path / "ha-monitor.toml", '[broker]\nurl = "amqp://h"\n[store]\nurl = "redis://h"\n'
    for name in ("chat", "pager"):
        channels += f'[notify.channels.{name}]\ntype = "exec"\ncommand = ["tell"]\n'
    channels += '[notify.channels.alive]\ntype = "heartbeat"\nurl = "http://h/"\n'
    said = []
    for routes in ("", '[[notify.routes]]\nchannels = ["chat"]\n'):
        file.write_text(channels + routes)
        assert main(["check", "--config", str(file)]) == 0
        said.append([line for line in capsys.readouterr().out.splitlines() if " channel: " in line])

    assert said == [[], ["warning  channel: pager: no route leads to it, so it is told of nothing"]]
