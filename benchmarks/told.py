"""What incidents and channels cost: one instance that looks for neither, one that looks for incidents, and one that
also has channels, in turns over the recorded stream.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bed import Measured, Services, declare_queue, redis_cpu
from benchmarks.speed import LINES_BEFORE, Result, prompt_lines
from benchmarks.table import Row
from tests.support.receivers import HttpReceiver
from tests.support.recording import Recorded, publish, read_stream

ROUNDS = 5
WITHOUT = """
import sys
from ha_monitor.pipeline.incidents import IncidentsDuty
IncidentsDuty.run = lambda _self: []
from ha_monitor.cli.main import main
sys.exit(main(["run"]))
"""
MOST = 0.03
"""Share by which incidents and channels may make events dearer. A pass is short, so that the first look, which imports
and connects, weighs more than under lasting load: no must.
"""


def run(services: Services) -> list[Row]:
    stream = read_stream("stream")
    results: dict[str, list[Result]] = {"without": [], "incidents": [], "channels": []}
    with tempfile.TemporaryDirectory() as folder, HttpReceiver() as receiver:
        config = Path(folder) / "channels.toml"
        config.write_text("".join(_channel(name, receiver.url) for name in ("one", "two", "three")))
        commands: dict[str, tuple[Sequence[str], Path | None]] = {
            "without": (["-c", WITHOUT], None),
            "incidents": (["-m", "ha_monitor", "run"], None),
            "channels": (["-m", "ha_monitor", "run"], config),
        }
        for number in range(ROUNDS):
            order = list(results) if number % 2 == 0 else list(results)[::-1]
            for name in order:
                results[name].append(_measure(services, stream, f"{name}{number}", *commands[name]))
                print(name, results[name][-1], file=sys.stderr, flush=True)
    rows = []
    for name, words in (("incidents", "with incidents"), ("channels", "with incidents and three channels")):
        pairs = list(zip(results[name], results["without"], strict=True))
        own = statistics.median(one.cost / two.cost for one, two in pairs) - 1
        redis = statistics.median(one.redis_cost / two.redis_cost for one, two in pairs) - 1
        rate = statistics.median(one.rate / two.rate for one, two in pairs) - 1
        said = f"{own:+.1%} CPU an event, Redis {redis:+.1%}, {rate:+.1%} events/s"
        rows.append(Row(f"{words}, median of {ROUNDS} pairs", said, "", f"≤ {MOST:.0%} CPU"))
    return rows


def _channel(name: str, url: str) -> str:
    return f'[notify.channels.{name}]\ntype = "webhook"\nurl = {json.dumps(url)}\n'


def _measure(
    services: Services, stream: list[Recorded], name: str, command: Sequence[str], config: Path | None
) -> Result:
    expected, events = prompt_lines(stream), sum(len(message.events) for message in stream)
    services.redis.client(1).flushdb()
    store = services.redis.url(1)
    with services.vhost(name) as broker:
        declare_queue(broker, store)
        publish(broker, stream)
        redis_used = redis_cpu(services.redis)
        environment = {"HA_MONITOR_BROKER_URL": broker, "HA_MONITOR_STORE_URL": store}
        if config is not None:
            environment["HA_MONITOR_CONFIG"] = str(config)
        with Measured(command, environment) as monitor:
            began, used = monitor.wait_lines(LINES_BEFORE), monitor.cpu()
            ended = monitor.wait_lines(LINES_BEFORE + expected)
            cost = (monitor.cpu() - used) / events * 1e6
        return Result(events / (ended - began), cost, (redis_cpu(services.redis) - redis_used) / events * 1e6)
