"""The process that serves the pages: it listens, sends signs of life to systemd, and stops when told to."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.errors import ConfigurationError, HaMonitorError
from ha_monitor.http.connections import Client, Connections
from ha_monitor.http.exchange import exchange
from ha_monitor.http.listening import PERMANENT_ERRORS, bind, tls_context
from ha_monitor.http.rate_limited import RateLimited
from ha_monitor.store.reader import StoreReader
from ha_monitor.supervision import Supervisor
from ha_monitor.threads import Threads
from ha_monitor.web.answer_cache import AnswerCache
from ha_monitor.web.application import Application
from ha_monitor.web.hosts import Hosts
from ha_monitor.web.reader_pool import ReaderPool
from ha_monitor.web.rendering import Renderer
from ha_monitor.web.sign_in import SignIn, require_sign_in
from ha_monitor.web.static_files import StaticFiles
from ha_monitor.web.tailing import Tailing

MAX_CONNECTIONS = 512
"""Connections at once."""
SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread that makes an answer may hold the interpreter while the server's thread wants it."""
PROGRESS_EVERY = 0.5
"""Seconds between two signs of life."""
STOP_TIMEOUT = 5.0
"""Seconds to wait at the end for requests that are being answered."""


class AddressTaken(HaMonitorError):
    """The address cannot be bound at the moment."""


class WebServer:
    """The server of the pages, wired but not started."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        threads: Threads,
        supervisor: Supervisor,
        report: Callable[[str], None],
    ) -> None:
        """Bind the address.

        :param report: called with the text of an internal error.
        :raises ConfigurationError: if the configuration cannot be used.
        :raises AddressTaken: if the address cannot be bound at the moment.
        """
        web = config.web
        base = urlsplit(web.url).path.rstrip("/")
        address = require_sign_in(web)
        StoreReader(config.store, config.node_id).validate()
        tls = tls_context(web.tls_certificate, web.tls_key, "web") if web.tls_certificate else None
        self._supervisor = supervisor
        failures = RateLimited(clock, lambda text, times: report(f"{text}{_times(times)}"))
        passwords = RateLimited(clock, lambda who, times: report(f"wrong password from {who}{_times(times)}"))
        self._report = failures.report
        files, readers = StaticFiles(), ReaderPool(config, clock, threads)
        self._tailing = Tailing(readers, clock)
        self._application = Application(
            base=base,
            hosts=Hosts([*web.hosts, urlsplit(web.url).hostname or "", address[0], socket.gethostname()]),
            sign_in=SignIn(web, clock, passwords.report),
            readers=readers,
            tailing=self._tailing,
            cache=AnswerCache(clock),
            renderer=Renderer(config.node_id, base, files),
            files=files,
            clock=clock,
            report=failures.report,
        )
        self._connections = Connections(
            self._converse, tls, refused=lambda _: None, on_error=failures.report, max_connections=MAX_CONNECTIONS
        )
        self._listening = _bound(web.listen, *address)
        scheme = "http" if tls is None else "https"
        host, port = self._listening.getsockname()[:2]
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{base}/"
        """The address of the pages, for a person on this machine."""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        accepting = asyncio.create_task(self._connections.accept(self._listening))
        self._supervisor.ready()
        while not stopped.is_set():
            self._supervisor.progress()
            with suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_EVERY):
                    await stopped.wait()
        self._supervisor.stopping()
        accepting.cancel()
        self._tailing.stop()
        self._listening.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                while len(self._connections):
                    await asyncio.sleep(0.02)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client) -> None:
        await exchange(
            reader,
            writer,
            lambda request: self._application.answer(request, client),
            malformed=lambda: None,
            on_error=self._report,
        )


def _bound(listen: str, host: str, port: int) -> socket.socket:
    try:
        return bind(host, port, MAX_CONNECTIONS)
    except OSError as error:
        reason = f"web.listen = {listen}: {error.strerror or error}"
        if error.errno in PERMANENT_ERRORS:
            raise ConfigurationError(reason, "web.listen") from None
        raise AddressTaken(reason) from None


def _times(times: int) -> str:
    return f" ({times} times)" if times > 1 else ""
