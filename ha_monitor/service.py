"""Wires the parts of an instance together, and runs the instance."""

from __future__ import annotations

import atexit
import codecs
import locale
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ha_monitor.backend.results import ResultBackend
from ha_monitor.broker.address import is_amqp
from ha_monitor.broker.amqp_source import AmqpSource
from ha_monitor.broker.control import WorkerBroadcast
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.broker.schedules import query_confs
from ha_monitor.broker.source import Source, max_requeue_delay
from ha_monitor.broker.task_query import WorkerAnswers, query_tasks
from ha_monitor.clock import Clock, SystemClock
from ha_monitor.config.schema import Config, LogFormat
from ha_monitor.config.secrets import Scrubber, mask_url
from ha_monitor.errors import ConfigurationError
from ha_monitor.events.decode import SAMPLE, Decoder
from ha_monitor.events.facts import FactBuilder
from ha_monitor.events.redact import Redactor
from ha_monitor.events.types import EmissionPolicy
from ha_monitor.exit_status import ExitStatus
from ha_monitor.metrics.definitions import UNKNOWN
from ha_monitor.metrics.http import HttpServer
from ha_monitor.metrics.series import SAMPLES_PER_EXCEPTION, max_samples
from ha_monitor.metrics.surveyor import Surveyor
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.console import console_renderer
from ha_monitor.outputs.handler_calls import HandlerCalls
from ha_monitor.outputs.handlers import HandlerCode, Handlers
from ha_monitor.outputs.journal import SOCKET as JOURNAL_SOCKET
from ha_monitor.outputs.journal import JournalOutput, is_journal
from ha_monitor.outputs.line import EventLines, Identity
from ha_monitor.outputs.log import LibraryHandler, Logger, Threshold, make_logger
from ha_monitor.outputs.output import Output, StreamOutput
from ha_monitor.pipeline.incident_detector import IncidentDetector
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.pipeline import Pipeline
from ha_monitor.pipeline.reloadable import Reloadable
from ha_monitor.pipeline.schedule_discovery import ScheduleDiscovery
from ha_monitor.pipeline.stats import Stats
from ha_monitor.schedules import redbeat
from ha_monitor.schedules.model import Definition
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.attempts import RedisAttempts
from ha_monitor.store.duties import Duties
from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.redbeat import RedBeatReader
from ha_monitor.store.redis_deliveries import RedisDeliveries
from ha_monitor.store.results import Counting
from ha_monitor.store.store import RedisStore
from ha_monitor.store.stuck import MAX_ABSENCE, RedisOpenTasks, first_look
from ha_monitor.supervision import Systemd
from ha_monitor.text.visible import ascii_json
from ha_monitor.threads import Threads
from ha_monitor.version import __version__


class Service:
    """One instance, wired and not yet started."""

    def __init__(
        self,
        config: Config,
        instance: str,
        environment: Mapping[str, str],
        *,
        reread: Callable[[], Config],
        output: int = 1,
    ) -> None:
        """
        :param instance: the instance's name, unique among the instances on this host.
        :param reread: loads the configuration again, for SIGHUP.
        :param output: the file descriptor to which lines are written.
        :raises ConfigurationError: if a handler module or a URL cannot be used.
        """
        clock = self._clock = SystemClock()
        self._handler_code = HandlerCode()
        self._config = config
        self._reread = reread
        self._identity = identity_of(config.node_id, instance)
        self._output = make_output(output, environment, clock)
        self._render = make_renderer(config.log.format, output, environment)
        self._threshold = Threshold(config.log.level)
        self._scrub = Scrubber(config)
        self.logger = make_logger(
            output=self._output,
            identity=self._identity,
            clock=clock,
            threshold=self._threshold,
            scrub=self._scrub,
            render=self._render,
        )
        stats = Stats()
        warn = self.logger.warning
        telemetry = self._telemetry = Telemetry(config, clock, stats, warn)
        threads = Threads(clock, lambda name, reason: warn("thread-failed", thread=name, reason=reason))
        self._broadcast = WorkerBroadcast(threads, config.broker, clock, BroadcastLines(self.logger))
        self.http: HttpServer | None = None
        if config.http.listen:
            self.http = HttpServer(
                config.http,
                instance,
                telemetry.health,
                telemetry.registry,
                text=telemetry.tasks,
                threads=threads,
                clock=clock,
                warn=warn,
                broken=telemetry.broken,
                scraped=telemetry.lease.scraped,
                not_served=telemetry.client_not_served,
                refused=lambda reason: self.logger.error("http-listen-failed", reason=reason),
            )
        self.surveyor = Surveyor(
            config,
            telemetry,
            lambda reason: warn("queue-survey-failed", reason=reason),
            threads,
            gate=self._broadcast,
        )
        reloadable = self._parts(config)
        self.pipeline = Pipeline(
            config=config,
            source=make_source(config, f"ha-monitor@{instance}.{self._identity.host}", clock, threads),
            record=make_record(config, self._identity, clock),
            reloadable=reloadable,
            identity=self._identity,
            supervisor=Systemd(environment, clock),
            stats=stats,
            telemetry=telemetry,
            logger=self.logger,
            clock=clock,
            program=self,
            broadcast=self._broadcast,
            investigator=make_investigator(config, clock, threads, self._broadcast),
            detector=IncidentDetector(StoreReader(config.store, config.node_id), threads),
            discovery=make_discovery(config, threads, self._broadcast),
            threads=threads,
        )

    def run(self) -> ExitStatus:
        """Run until SIGTERM or SIGINT; SIGHUP reloads the configuration.

        :raises ConfigurationError: if the program cannot run with this configuration.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self.pipeline.stop())
        for number in (signal.SIGUSR2, signal.SIGALRM):  # by default, these would end the process silently
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.pipeline.reload())
        logging.basicConfig(handlers=[LibraryHandler(self.logger, self._scrub)], level=logging.WARNING, force=True)
        self.logger.info("instance-started", version=__version__, python=sys.version.split()[0])
        if self.http is not None:
            self.http.start()
        try:
            self.pipeline.run()
        finally:
            self.surveyor.stop()
            if self.http is not None:
                self.http.stop()
        return ExitStatus.OK

    def ensure_running(self) -> None:
        """Restart those threads besides the loop that are not running."""
        self._broadcast.retry()
        if self.http is not None:
            self.http.ensure_running()
        self.surveyor.ensure_running()

    def _parts(self, config: Config) -> Reloadable:
        """Build the parts that a reload replaces."""
        redactor = Redactor(config.log.redact, config.log.max_value_length)
        handlers = Handlers(self._handler_code.load(config.handlers.modules), redactor)
        policy = EmissionPolicy(config.log.level, handlers.types)
        exemplars = self._telemetry.tasks.exemplars
        return Reloadable(
            make_decoder(config, policy),
            EventLines(self._output, self._identity, policy, self._clock, render=self._render, observer=exemplars),
            HandlerCalls(handlers, config.handlers, self._identity, self.logger, self._clock),
        )

    def read_again(self) -> Reloadable | None:
        """New parts for a reload; None if the configuration is wrong. Logs which changes need a restart."""
        try:
            config = self._reread()
            reloadable = self._parts(config)
        except ConfigurationError as error:
            self.logger.error("reload-failed", reason=str(error))
            return None
        fixed = [name for name in FIXED if getattr(config, name) != getattr(self._config, name)]
        if config.log.format is not self._config.log.format:
            fixed.append("log.format")
        fixed += self._handler_code.changed()
        with self._threshold.changing(config.log.level):
            if fixed:
                self.logger.warning("restart-required", changed=fixed)
            self.logger.info("reloaded", log_level=config.log.level.value)
        return reloadable


FIXED = (
    *("node_id", "broker", "queue", "store", "batch", "http", "metrics", "workers", "stuck", "result_backend"),
    *("notify", "redbeat", "schedules", "web"),
)
"""The sections of the configuration that a reload cannot change."""


def identity_of(node_id: str, instance: str) -> Identity:
    """The identity of this process in its log lines."""
    return Identity(node_id, instance, socket.gethostname(), os.getpid())


def plain_logger(instance: str, environment: Mapping[str, str]) -> Logger:
    """A logger for use without a valid configuration."""
    config = Config()
    clock = SystemClock()
    return make_logger(
        output=make_output(1, environment, clock),
        identity=identity_of(config.node_id, instance),
        clock=clock,
        threshold=Threshold(config.log.level),
        scrub=mask_url,
    )


def make_output(file_descriptor: int, environment: Mapping[str, str], clock: Clock) -> Output:
    """The journal if the descriptor is connected to it, so that lines have fields; else the descriptor."""
    if is_journal(file_descriptor, environment) and Path(JOURNAL_SOCKET).exists():
        output = JournalOutput(clock)
        atexit.register(output.settle)
        return output
    return StreamOutput(file_descriptor)


def make_renderer(
    chosen: LogFormat, file_descriptor: int, environment: Mapping[str, str]
) -> Callable[[dict[str, Any]], bytes] | None:
    """The renderer of lines, if the console format or the terminal needs another form than JSON in UTF-8; else None."""
    terminal = os.isatty(file_descriptor)
    encoding = locale.getencoding() if terminal else "utf-8"
    if chosen is LogFormat.CONSOLE:
        return console_renderer(colors=terminal and not environment.get("NO_COLOR"), encoding=encoding)
    if codecs.lookup(encoding).name == "utf-8":
        return None
    to_json = msgspec.json.Encoder(enc_hook=str).encode
    return lambda fields: ascii_json(to_json(fields))


def make_source(config: Config, consumer_name: str, clock: Clock, threads: Threads) -> Source:
    """The source for `broker.url`."""
    if is_amqp(config.broker.url):
        return AmqpSource(config, consumer_name)
    return RedisSource(config, clock, threads)


class BroadcastLines:
    """Writes log lines about the results of the broadcasts to the workers."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def failed(self, reason: str) -> None:
        self._logger.warning("workers-unreachable", reason=reason)

    def unheard(self, reason: str) -> None:
        self._logger.warning("no-worker-answered", reason=reason)

    def alarm(self, reason: str) -> None:
        self._logger.warning("broker-alarm", reason=reason)

    def alarm_over(self, seconds: float) -> None:
        self._logger.info("broker-alarm-over", lasted=round(seconds, 3))


def make_investigator(
    config: Config, clock: Clock, threads: Threads, broadcast: WorkerBroadcast
) -> Investigator | None:
    """The investigator of stuck tasks; None if the detection of stuck tasks is disabled.

    :param broadcast: knows whether workers can be asked.
    :raises ConfigurationError: if `result_backend.url` cannot be used.
    """
    if not config.stuck.enabled:
        return None
    backend = ResultBackend(config.result_backend).results if config.result_backend.url else None

    def ask(task_ids: Sequence[str], ask_settings: Sequence[str]) -> WorkerAnswers:
        return broadcast.unless_blocked(partial(query_tasks, config, task_ids, ask_settings))

    return Investigator(ask, backend, clock, threads)


def make_discovery(config: Config, threads: Threads, broadcast: WorkerBroadcast) -> ScheduleDiscovery:
    """The part that asks workers and RedBeat for schedules.

    :param broadcast: knows whether workers can be asked.
    """

    def ask(workers: Sequence[str]) -> Mapping[str, object]:
        return broadcast.unless_blocked(partial(query_confs, config, workers))

    reader = RedBeatReader(config.redbeat)

    def read(zone: str) -> Sequence[Definition]:
        return redbeat.definitions_of(reader.read(), zone, config.redbeat.prefix)

    return ScheduleDiscovery(ask, read if config.redbeat.url else None, threads)


def make_record(config: Config, identity: Identity, clock: Clock) -> SharedRecord:
    """The shared record in Redis, not connected yet."""
    store = RedisStore(
        config.store,
        config.node_id,
        clock,
        requeue_delay(config),
        counting(config, identity),
        first_look=first_look(config.stuck),
    )
    open_tasks = RedisOpenTasks(store, config.stuck, 0.0 if is_amqp(config.broker.url) else MAX_ABSENCE)
    return SharedRecord(
        store,
        Duties(store),
        open_tasks,
        RedisAttempts(store),
        RedisDeliveries(store),
    )


def requeue_delay(config: Config) -> float:
    """Maximum seconds until the broker requeues the unacknowledged messages of an instance that disappeared."""
    # Pub/sub requeues nothing.
    return max_requeue_delay(config.broker.heartbeat) if is_amqp(config.broker.url) else 0.0


def counting(config: Config, identity: Identity) -> Counting | None:
    """How this instance counts events for metrics; None without HTTP."""
    if not config.http.listen:
        return None
    metrics = config.metrics
    return Counting(
        name=f"{identity.host}/{identity.instance}",
        buckets=sorted(set(metrics.buckets)),
        workers=metrics.worker_labels.value,
        worker_histograms=metrics.worker_histograms,
        a_label_set=max_samples(metrics),
        an_exception=SAMPLES_PER_EXCEPTION,
        default_queue=metrics.default_queue or UNKNOWN,
        room=metrics.max_series,
    )


def make_decoder(config: Config, policy: EmissionPolicy) -> Decoder:
    """A decoder that keeps only the fields that the configuration allows."""
    log = config.log
    redactor = Redactor(log.redact, log.max_value_length)
    facts = FactBuilder(policy, redactor, arguments=log.arguments, results=log.results, binary=as_lua_string)
    hidden = list(log.redact)
    hidden += [] if log.arguments else ["args", "kwargs"]
    hidden += [] if log.results else ["result"]
    return Decoder(facts, Redactor(hidden, SAMPLE))
