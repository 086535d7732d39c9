"""Wires the parts of an instance together, and runs it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from ha_monitor.broker.address import is_amqp
from ha_monitor.broker.amqp_source import AmqpSource
from ha_monitor.broker.control import greet_workers
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.broker.source import Source
from ha_monitor.clock import Clock, SystemClock
from ha_monitor.config.schema import Config, LogFormat
from ha_monitor.config.secrets import Scrubber
from ha_monitor.events.decode import SAMPLE, Decoder
from ha_monitor.events.facts import FactBuilder
from ha_monitor.events.policy import EmissionPolicy
from ha_monitor.events.redact import Redactor
from ha_monitor.exit_status import ExitStatus
from ha_monitor.outputs.announcer import Announcer
from ha_monitor.outputs.console import console_renderer
from ha_monitor.outputs.handlers import Handlers, load_handlers
from ha_monitor.outputs.line import Identity, iso_time
from ha_monitor.outputs.log import LibraryHandler, make_logger
from ha_monitor.outputs.writer import LineWriter
from ha_monitor.pipeline.pipeline import Pipeline
from ha_monitor.pipeline.rejects import Rejects
from ha_monitor.store.store import Store
from ha_monitor.supervision import Systemd
from ha_monitor.version import __version__


class Service:
    """One instance, put together and not yet started."""

    def __init__(self, config: Config, instance: str, environment: Mapping[str, str], output: int = 1) -> None:
        """
        :param instance: its name, unlike that of the other instances on this host.
        :param output: the file descriptor that gets the lines.
        :raises ConfigurationError: if a handler's module or a URL cannot be used.
        """
        clock = SystemClock()
        self.identity = Identity(config.node_id, instance, socket.gethostname(), os.getpid())
        handlers = Handlers(load_handlers(config.handlers.modules))
        policy = EmissionPolicy(config.log.level, handlers.types)
        writer = LineWriter(output)
        render = None
        if config.log.format is LogFormat.CONSOLE:
            render = console_renderer(colors=os.isatty(output) and not environment.get("NO_COLOR"))
        self.logger = make_logger(
            writer=writer,
            identity=self.identity,
            clock=clock,
            level=config.log.level,
            scrub=Scrubber(config),
            render=render,
        )
        announcer = Announcer(
            writer=writer,
            identity=self.identity,
            policy=policy,
            handlers=handlers,
            settings=config.handlers,
            logger=self.logger,
            clock=clock,
            render=render,
        )
        who = {
            "instance": instance,
            "host": self.identity.host,
            "pid": self.identity.pid,
            "version": __version__,
            "started": clock.time(),
        }
        self.pipeline = Pipeline(
            config=config,
            source=make_source(config, f"ha-monitor@{instance}.{self.identity.host}", clock),
            store=Store(config.store, config.node_id, clock),
            decoder=make_decoder(config, policy),
            announcer=announcer,
            rejects=Rejects(self.identity, self.logger, clock),
            supervisor=Systemd(environment, clock),
            logger=self.logger,
            clock=clock,
            who=who,
            greet=lambda url: greet_workers(url, config.broker),
        )
        self._started = iso_time(clock.time())

    def run(self) -> ExitStatus:
        """Run until SIGTERM or SIGINT.

        :raises ConfigurationError: if it turns out that the program cannot run as it is configured.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        logging.basicConfig(handlers=[LibraryHandler(self.logger)], level=logging.WARNING, force=True)
        self.logger.info("instance-started", version=__version__, python=sys.version.split()[0])
        self.pipeline.run()
        return ExitStatus.OK

    def _on_stop_signal(self, _number: int, _frame: Any) -> None:
        self.pipeline.stop()


def make_source(config: Config, consumer_name: str, clock: Clock) -> Source:
    """The source that fits `broker.url`."""
    if is_amqp(config.broker.url):
        return AmqpSource(config, consumer_name)
    return RedisSource(config, consumer_name, clock)


def make_decoder(config: Config, policy: EmissionPolicy) -> Decoder:
    """A decoder that keeps of an event what the configuration allows."""
    log = config.log
    redactor = Redactor(log.redact, log.max_value_length)
    facts = FactBuilder(policy, redactor, arguments=log.arguments, results=log.results)
    hidden = list(log.redact)
    hidden += [] if log.arguments else ["args"]
    hidden += [] if log.results else ["result"]
    return Decoder(facts, Redactor(hidden, SAMPLE))
