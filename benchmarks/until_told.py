"""How long it takes until somebody is told: real beats and workers are killed, and Alertmanager, a webhook and a mail
server hear of it. An instance is as it is by default, but for the ten minutes for which a new schedule is not judged.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bed import Measured, Services
from benchmarks.table import Row
from ha_monitor.config.schema import StoreSettings
from ha_monitor.schedules.model import ScheduleState
from ha_monitor.store.reader import StoreReader
from tests.support.alertmanager import PrivateAlertmanager
from tests.support.beats import CeleryBeat
from tests.support.process import ServiceMissing, wait_until
from tests.support.receivers import HttpReceiver, MailReceiver, Received, answering
from tests.support.workers import CeleryWorker

FLEETS = 20
EVERY = 60.0
"""Seconds between two runs of a schedule."""
STARTS_APART = 2.0
"""Seconds between the starts of two fleets, so that no two are in step."""
LONGEST = 900.0
CHANNELS = ("alertmanager", "webhook", "mail")
SCHEDULES = {
    "beat_schedule": {
        name: {"task": f"tests.{name}", "schedule": EVERY, "args": [1, 2] if name == "add" else [name]}
        for name in ("add", "echo")
    }
}


class Told(NamedTuple):
    """When somebody was told of what. Times are in seconds since the epoch."""

    kind: str
    killed: float
    begun: float
    """Since when it is wrong, as the line says: a beat is silent from its first due time on."""
    opened: float
    """When the line was read from the instance."""
    heard: dict[str, float]
    """By channel, when its receiver had it."""


class Receivers:
    """A receiver for each channel, and when each heard of an incident first."""

    def __init__(self, stack: ExitStack) -> None:
        self._heard: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self.http = stack.enter_context(HttpReceiver(self._posted))
        self.mail = MailReceiver()
        self.mail.before = self._mailed
        stack.enter_context(self.mail)
        base = self.http.url.removesuffix("/hook")
        self.alertmanager = stack.enter_context(PrivateAlertmanager(f"{base}/alertmanager"))
        self.webhook = f"{base}/webhook"

    def heard(self, incident: str) -> dict[str, float]:
        """By channel."""
        with self._lock:
            return {channel: at for (channel, one), at in self._heard.items() if one == incident}

    def _posted(self, handler: BaseHTTPRequestHandler, received: Received) -> None:
        channel = received.path.strip("/")
        if channel == "alertmanager":  # what it tells of what it was told
            self._note(channel, [one["labels"]["incident"] for one in received.document["alerts"]])
        else:
            self._note(channel, [one["id"] for one in received.document["incidents"]])
        answering()(handler, received)

    def _mailed(self, mail: Message) -> str:
        self._note("mail", [str(mail["X-Delivery-Id"]).split(".", maxsplit=1)[0]])
        return "250 OK"

    def _note(self, channel: str, incidents: Sequence[str]) -> None:
        with self._lock:
            for one in incidents:
                self._heard.setdefault((channel, one), time.time())


def run(services: Services) -> list[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            receivers = Receivers(stack)
        except ServiceMissing as missing:
            return [Row("until somebody is told", f"not measured: {missing}")]
        with ThreadPoolExecutor(FLEETS) as pool:
            fleets = [pool.submit(_one_fleet, services, folder, receivers, number) for number in range(FLEETS)]
            told = [one for fleet in fleets for one in fleet.result()]
    return [row for kind in ("beat-silent", "worker-lost") for row in _rows(kind, told)]


def _rows(kind: str, told: Sequence[Told]) -> Iterator[Row]:
    of_kind = [one for one in told if one.kind == kind]
    yield Row(f"`{kind}`: killed to line, of {len(of_kind)}", _figures([one.opened - one.killed for one in of_kind]))
    yield Row("… since it was wrong to line", _figures([one.opened - one.begun for one in of_kind]))
    for channel in CHANNELS:
        yield Row(f"… line to {channel}", _figures([one.heard[channel] - one.opened for one in of_kind]))
        yield Row(f"… killed to {channel}", _figures([one.heard[channel] - one.killed for one in of_kind]))


def _figures(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds):.1f} s, least {min(seconds):.1f} s, most {max(seconds):.1f} s"


def _one_fleet(services: Services, folder: Path, receivers: Receivers, number: int) -> list[Told]:
    """Two workers, a beat and an instance: what is told of when the beat is killed, and then one of the workers."""
    time.sleep(number * STARTS_APART)
    name = f"told{number}"
    store = StoreSettings(url=services.redis.url(3))
    with services.vhost(name) as broker, ExitStack() as stack:
        config = folder / f"{name}.toml"
        config.write_text(_settings(name, broker, store.url, receivers))
        command = ["-m", "tests.support.settled", "2", "run"]
        monitor = stack.enter_context(Measured(command, {"HA_MONITOR_CONFIG": str(config)}))
        monitor.keep_output()
        wait_until(lambda: monitor.lines >= 3, LONGEST, "the start of an instance", 0.1)
        env = {"TESTS_SETTINGS": json.dumps(SCHEDULES)}
        a, _ = (
            stack.enter_context(CeleryWorker(broker, one, pool="solo", send_sent_event=True, env=env)) for one in "ab"
        )
        beat = stack.enter_context(CeleryBeat(broker, SCHEDULES))
        with _reader(store, name) as reader:

            def are_on_time() -> bool:
                found = reader.schedules.judgements()
                return len(found) == len(SCHEDULES["beat_schedule"]) and all(
                    one.state is ScheduleState.ON_TIME for one in found
                )

            wait_until(are_on_time, LONGEST, "schedules that are on time", 0.5)
        beat.wait_for_round()
        time.sleep(EVERY * (number + 0.5) / FLEETS)  # as late in its period as chance would have it
        killed = time.time()
        beat.kill()
        told = [_wait_for("beat-silent", killed, monitor, receivers)]
        killed = time.time()
        a.process.kill()
        told.append(_wait_for("worker-lost", killed, monitor, receivers))
        return told


def _wait_for(kind: str, killed: float, monitor: Measured, receivers: Receivers) -> Told:
    opened, line = wait_until(lambda: list(_opened(kind, monitor)), LONGEST, f"the line of {kind}", 0.2)[0]

    def heard() -> dict[str, float]:
        found = receivers.heard(line["incident"])
        return found if len(found) == len(CHANNELS) else {}

    by_channel = wait_until(heard, LONGEST, f"all channels to hear of {kind}", 0.2)
    return Told(kind, killed, datetime.fromisoformat(line["since"]).timestamp(), opened, by_channel)


def _opened(kind: str, monitor: Measured) -> Iterator[tuple[float, dict[str, Any]]]:
    rest = b""
    for read_at, piece in list(monitor.data):
        *lines, rest = (rest + piece).split(b"\n")
        for text in lines:
            line = json.loads(text)
            if line["event"] == "incident-opened" and line["kind"] == kind:
                yield read_at, line


@contextmanager
def _reader(store: StoreSettings, node_id: str) -> Iterator[StoreReader]:
    reader = StoreReader(store, node_id)
    reader.connect()
    try:
        yield reader
    finally:
        reader.close()


def _settings(node_id: str, broker: str, store: str, receivers: Receivers) -> str:
    channels: dict[str, dict[str, object]] = {
        "alertmanager": {"type": "alertmanager", "urls": [receivers.alertmanager.url]},
        "webhook": {"type": "webhook", "url": receivers.webhook},
        "mail": {
            **{"type": "email", "to": ["ops@example.org"], "sender": "monitor@example.org"},
            **{"tls": "none", "port": receivers.mail.port},
        },
    }
    lines = [f'node_id = "{node_id}"', f'broker.url = "{broker}"', f'store.url = "{store}"']
    for name, channel in channels.items():
        lines += [f"[notify.channels.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in channel.items())]
    return "\n".join(lines) + "\n"
