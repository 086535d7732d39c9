"""A fleet of real `ha-monitor run` processes, which a test kills, freezes and starts again at will."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from kombu import Connection

from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Config
from ha_monitor.errors import StoreUnavailable
from ha_monitor.store.reader import InstanceEntry, StoreReader
from tests.support.forked import python_process
from tests.support.ledger import Account, Line, Published, balance
from tests.support.machine import patient
from tests.support.process import OwnProcess, wait_until
from tests.support.proxy import CutLink
from tests.support.rights import as_monitor

ROOT = Path(__file__).resolve().parents[2]
Overrides = Mapping[str, Mapping[str, Any]]
QUICK: dict[str, dict[str, Any]] = {
    # Short, so that a take-over does not take long. The wait for a name is long: what an instance holds when it
    # dies or freezes reaches the others later, and these tests demand a name in every line.
    "store": {"lease": 2.0, "timeout": 1.0, "name_wait": 30.0},
    "broker": {"heartbeat": 2.0, "prefetch": 200, "connect_timeout": 1.2},
    "batch": {"events": 100},
}
_PATIENT: dict[str, dict[str, Any]] = {
    "store": {"timeout": patient(5)},
    "broker": {"connect_timeout": patient(1.2)},
}
"""What a test itself asks of store and broker may take longer, on a busy machine, than an instance waits."""


def environment_of_commands(folder: Path) -> dict[str, str]:
    """Makes a command ask about the fleet of a folder as patiently as a test does."""
    return {
        "HA_MONITOR_CONFIG": str(folder / "fleet.toml"),
        # The configuration wants a lease that is longer than the time-out, and a command has none.
        "HA_MONITOR_STORE_LEASE": f"{patient(10):g}",
        "HA_MONITOR_STORE_TIMEOUT": f"{_PATIENT['store']['timeout']:g}",
        "HA_MONITOR_BROKER_CONNECT_TIMEOUT": f"{_PATIENT['broker']['connect_timeout']:g}",
    }


class Output:
    """What one start of an instance has written, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.lines: list[Line] = []
        self.bad: list[str] = []
        """Whole lines that are not JSON objects."""
        self.torn = b""
        """What follows the last newline."""
        self._path = path
        self._offset = 0

    def read(self) -> list[Line]:
        """All lines so far."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *whole, self.torn = (self.torn + data).split(b"\n")
        for text in whole:
            try:
                self.lines.append(msgspec.json.decode(text, type=dict[str, Any]))
            except msgspec.DecodeError:
                self.bad.append(text[:500].decode("utf-8", "replace"))
        return self.lines


class Instance:
    """One named instance over all its starts."""

    def __init__(self, name: str, folder: Path, config: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.outputs: list[Output] = []
        """One for each start."""
        self._folder = folder
        self._config = config
        self._env = env
        self._process: OwnProcess | None = None

    @property
    def process(self) -> OwnProcess:
        """The latest process."""
        assert self._process is not None, "the instance was never started"
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self, *, launcher: Sequence[str] = ("ha_monitor",)) -> None:
        """Start it, without waiting until it consumes.

        :param launcher: module, and its arguments in front of `run`.
        """
        path = self._folder / f"{self.name}-{len(self.outputs) + 1}.log"
        command = [*launcher, "run", "--instance", self.name, "--config", str(self._config)]
        self._process = python_process(command, path, env=self._env, cwd=self._folder)
        self.outputs.append(Output(path))

    def consumes(self) -> bool:
        """Whether this start has begun to consume.

        :raises AssertionError: if it has ended instead.
        """
        assert self.running, f"instance {self.name} ended with {self.process.returncode}:\n{self.process.output()}"
        return self.said("broker-connected") > 0

    def said(self, event: str) -> int:
        """How often the latest start has said this."""
        return sum(line["event"] == event for line in self.outputs[-1].read())

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        self.process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send(signal.SIGCONT)

    def stop(self, timeout: float = 15) -> int:
        """SIGTERM; returns the exit status.

        :raises TimeoutError: if it does not end in time.
        """
        self.process.send(signal.SIGTERM)
        return self.process.wait(timeout)

    def lines(self) -> Iterator[Line]:
        """The lines of all its starts."""
        for output in self.outputs:
            yield from output.read()


class Fleet:
    """Instances with one configuration. Leaving the context kills what still runs."""

    def __init__(
        self,
        folder: Path,
        broker_url: str,
        store_url: str,
        *,
        size: int = 3,
        node_id: str = "fleet",
        settings: Overrides | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare them; they get the documented rights on broker and store, and no other ones. `config` is theirs, but
        for the time-outs: with these the tests look.

        :param broker_url: with a user who may do everything: what a worker would have declared is declared with it.
        :param settings: sections that differ from `QUICK`.
        :param env: more environment for the instances.
        """
        self.node_id = node_id
        declare_event_exchange(broker_url)
        urls = {
            "broker": {"url": as_monitor(broker_url, broker=True)},
            "store": {"url": as_monitor(store_url)},
        }
        sections = merged(QUICK, urls, settings or {})
        config = folder / f"{node_id}.toml"
        config.write_text(toml({"node_id": node_id}, sections))
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HA_MONITOR_", "PYTHON"))}
        environment = clean | {"PYTHONPATH": str(ROOT)} | dict(env or {})
        self.instances = [Instance(str(n + 1), folder, config, environment) for n in range(size)]
        self.config = msgspec.convert({"node_id": node_id, **merged(sections, _PATIENT)}, Config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for instance in self.instances:
            if instance.running:
                instance.kill()

    def start(self, timeout: float = 60) -> Self:
        """Start all that do not run, and wait until all consume."""
        for instance in self.instances:
            if not instance.running:
                instance.start()
        try:
            self.wait_until_consuming(timeout)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def wait_until_consuming(self, timeout: float = 60) -> None:
        wait_until(lambda: all(one.consumes() for one in self.instances), timeout, "the fleet's consuming", 0.05)

    def lines(self) -> Iterator[Line]:
        """The lines of all instances, those of one instance in order."""
        for instance in self.instances:
            yield from instance.lines()

    def said(self, event: str) -> list[Line]:
        """All lines with this event."""
        return [line for line in self.lines() if line["event"] == event]

    def entries(self) -> list[InstanceEntry]:
        """What the store holds about the instances, living and dead."""
        with self._reader() as reader:
            return reader.instances()

    def wait_until_connected(self, service: str, times: int) -> None:
        """Wait until each instance has connected to `broker` or `store` so often. Not each time has a line."""

        def connected() -> bool:
            try:
                counts = [entry.stats.get(f"{service}_connects", 0) for entry in self.entries() if entry.lease_left > 0]
            except StoreUnavailable:
                return False
            return sum(count >= times for count in counts) == len(self.instances)

        wait_until(connected, 60, f"the instances' return to the {service}", 0.1)

    def wait_until_merged(self, events: int) -> None:
        """Wait until the instances have merged so many events since they started."""
        wait_until(
            lambda: sum(entry.stats.get("events", 0) for entry in self.entries()) >= events, 30, "the merge", 0.2
        )

    def handler_retries(self) -> int:
        """How many handlers are to be called again, by whichever instance."""
        with self._reader() as reader:
            return reader.counts().retries

    @contextmanager
    def _reader(self) -> Iterator[StoreReader]:
        reader = StoreReader(self.config.store, self.node_id)
        reader.connect()
        try:
            yield reader
        finally:
            reader.close()

    def wait_until_announced(self, published: Published, timeout: float = 60) -> None:
        """Wait until every event that must be announced is, or until the time is over, which is no error here."""

        seen = -1

        def nothing_left() -> bool:
            nonlocal seen
            lines = list(self.lines())
            if len(lines) == seen:
                return False  # as until a lease ends, which takes most of the time
            seen = len(lines)
            return published.are_in(lines)

        try:
            wait_until(nothing_left, timeout, "the announcement of all events", 0.1)
        except TimeoutError:
            return

    def account(self, published: Published, timeout: float = 60) -> Account:
        """What became of the published events, as of now, once all are announced or the time is over."""
        self.wait_until_announced(published, timeout)
        lines = list(self.lines())
        outputs = [output for instance in self.instances for output in instance.outputs]
        return balance(
            published,
            lines,
            torn=sum(bool(output.torn) for output in outputs),
            bad=[text for output in outputs for text in output.bad],
        )

    def close_account(self, published: Published, timeout: float = 60) -> Account:
        """Wait until all is announced and nothing is left to do in the store, stop the fleet, and count."""
        self.wait_until_announced(published, timeout)
        wait_until(self._is_settled, 30, "that every outbox is empty and nobody dead is left", 0.1)
        self.assert_records_agree()
        for instance in self.instances:
            assert instance.stop() == 0, instance.process.output()[-2000:]
        assert self.said("message-set-aside") == [], "no message of these tests ends an instance by itself"
        account = self.account(published, 0)
        assert [one.name for one in self.instances if one.outputs[-1].torn] == [], "a line was torn without a kill"
        return account

    def assert_records_agree(self) -> None:
        """What `check --store` does: no list of tasks lacks or repeats anything."""
        with self._reader() as reader:
            agreement = reader.agreement(SystemClock(), keeps_open=self.config.stuck.enabled)
            found = agreement.disagreements(lambda _looked, _total: None)
        assert found == [], found[:10]

    def _is_settled(self) -> bool:
        try:
            entries = self.entries()
        except StoreUnavailable:
            return False
        return len(entries) == len(self.instances) and all(e.lease_left > 0 and e.outbox == 0 for e in entries)


def declare_event_exchange(broker_url: str) -> None:
    """Declare what the first worker of an application declares when it starts."""
    if broker_url.startswith("amqp"):
        with Connection(broker_url) as connection:
            connection.default_channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)


def merged(*layers: Overrides) -> dict[str, dict[str, Any]]:
    """Sections put on top of each other, key by key."""
    result: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, values in layer.items():
            result[section] = {**result.get(section, {}), **values}
    return result


def toml(top: Mapping[str, Any], sections: Overrides) -> str:
    """A TOML file, also of sections of named ones; JSON's strings, numbers, truth values and arrays are TOML's."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
        for name, inner in values.items():
            if isinstance(inner, Mapping):
                lines.append(f"[{section}.{json.dumps(name)}]")
                lines += [f"{key} = {json.dumps(value)}" for key, value in inner.items()]
    return "\n".join(lines) + "\n"


def through(link: CutLink, url: str) -> str:
    """The URL by which a link's target is reached through the link."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{link.url_port}").geturl()


def queue_depth(broker_url: str, queue: str = "celeryev.fleet") -> int:
    """Messages that are ready in a queue, by RabbitMQ's latest knowledge; `list_queues` is some seconds old."""
    with Connection(broker_url) as connection:
        count: int = connection.default_channel.queue_declare(queue, passive=True).message_count
    return count


def vhost_of(url: str) -> str:
    """The virtual host that an AMQP URL names."""
    return urlsplit(url).path[1:]
