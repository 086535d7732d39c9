"""The HTTP server of an instance: /livez, /readyz and /metrics, in a thread that only reads the loop's state."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from prometheus_client import CollectorRegistry

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Http
from ha_monitor.errors import ConfigurationError
from ha_monitor.http.connections import Client, Connections, Refusal
from ha_monitor.http.exchange import exchange
from ha_monitor.http.listening import PERMANENT_ERRORS, bind, host_and_port, tls_context
from ha_monitor.http.passwords import Passwords
from ha_monitor.http.rate_limited import RateLimited
from ha_monitor.metrics.application import Application
from ha_monitor.metrics.health import Health
from ha_monitor.metrics.scrapes import Broken, Scrapes, Text
from ha_monitor.threads import ServiceThread, Threads

BIND_RETRY_AFTER = 5.0
"""Seconds between two attempts to bind the address."""
STOP_TIMEOUT = 5.0
"""Seconds that stopping waits, at most."""


def address_of(listen: str, instance: str) -> tuple[str, int]:
    """Host and port of `http.listen` for an instance.

    :raises ConfigurationError: if there is no valid port with the instance's name.
    """
    given = listen.replace("%i", instance)
    address = host_and_port(given)
    if address is None:
        port = given.rpartition(":")[2]
        raise ConfigurationError(
            f"http.listen = {listen}: {port!r} is not a port; give this instance its own listen address",
            "http.listen",
        )
    return address


class HttpServer:
    """Serves the probes and the metrics of one instance from `start` to `stop`."""

    def __init__(
        self,
        settings: Http,
        instance: str,
        health: Health,
        registry: CollectorRegistry,
        *,
        threads: Threads,
        clock: Clock,
        warn: Callable[..., None],
        broken: Broken = lambda _what: None,
        scraped: Callable[[str], None] = lambda _client: None,
        not_served: Callable[[Refusal], None] = lambda _why: None,
        refused: Callable[[str], None] = lambda _reason: None,
        text: Text | None = None,
    ) -> None:
        """Bind the address, without serving yet; if that fails, it is retried once started.

        :param warn: writes a line, given its event and fields.
        :param broken: called with what is missing in a scrape.
        :param scraped: called with the address of a client before it gets metrics.
        :param not_served: called with the reason when a client is refused.
        :param refused: called once, with the reason why the address cannot be bound.
        :param text: families besides those of the registry.
        :raises ConfigurationError: if the address, the certificate or its key can never be used.
        """
        self._address = address_of(settings.listen, instance)
        self._refused = refused
        self._not_served = not_served
        self._unforeseen = RateLimited(
            clock, lambda reason, times: warn("http-request-failed", reason=reason, times=times)
        )
        passwords = None
        if settings.username:
            failed = RateLimited(clock, lambda client, times: warn("http-auth-failed", client=client, times=times))
            passwords = Passwords(settings.username, settings.password, clock, failed.report)
        self._scrapes = Scrapes(registry, threads.calls("scrapes"), clock, broken, text)
        self._application = Application(
            health,
            self._scrapes,
            passwords,
            scraped=scraped,
            refused=not_served,
        )
        self._tls = (
            tls_context(settings.tls_certificate, settings.tls_key, "http") if settings.tls_certificate else None
        )
        self._connections = Connections(self._converse, self._tls, refused=not_served, on_error=self._unforeseen.report)
        self._reason = ""
        self._listening: socket.socket | None = self._bind()
        self._ended = threading.Event()
        self._stop: Callable[[], object] | None = None
        self._thread = ServiceThread(threads, "http", self._serve)

    @property
    def port(self) -> int:
        """The port it listens on; 0 if it could not bind one yet."""
        return 0 if self._listening is None else int(self._listening.getsockname()[1])

    def connections(self) -> int:
        """Current number of connections."""
        return len(self._connections)

    def start(self) -> None:
        if self._reason:
            self._refused(self._reason)
        self.ensure_running()

    def ensure_running(self) -> None:
        """Start the thread if it is not running."""
        self._thread.ensure_running()

    def stop(self) -> None:
        """Stop serving. Does not wait for requests in progress."""
        self._ended.set()
        if self._stop is not None:
            with suppress(RuntimeError):  # it has already ended
                self._stop()
            self._thread.join(STOP_TIMEOUT)
        if self._listening is not None:
            self._listening.close()

    def _serve(self) -> None:
        while self._listening is None:
            if self._ended.wait(BIND_RETRY_AFTER):
                return
            with suppress(ConfigurationError):  # such as a name that now resolves to another machine's address
                self._listening = self._bind()
        asyncio.run(self._accept(self._listening))

    async def _accept(self, listening: socket.socket) -> None:
        accepting = asyncio.create_task(self._connections.accept(listening))
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, accepting.cancel)
        try:
            if not self._ended.is_set():
                with suppress(asyncio.CancelledError):
                    await accepting
        finally:
            self._scrapes.give_up()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client) -> None:
        await exchange(
            reader,
            writer,
            lambda request: self._application.answer(request, client),
            malformed=lambda: self._not_served(Refusal.MALFORMED),
            on_error=self._unforeseen.report,
        )

    def _bind(self) -> socket.socket | None:
        host, port = self._address
        try:
            return bind(host, port)
        except OSError as error:
            self._reason = f"http.listen = {host}:{port}: {error.strerror or error}"
            if error.errno in PERMANENT_ERRORS:
                raise ConfigurationError(self._reason) from None
            return None
