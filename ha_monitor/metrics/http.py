"""The HTTP server of an instance: /livez, /readyz and /metrics, in threads that only read what the loop left."""

from __future__ import annotations

import base64
import errno
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

from ha_monitor.config.schema import Http
from ha_monitor.errors import ConfigurationError
from ha_monitor.metrics.health import Answer, Health

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
AGAIN_AFTER = 5.0
"""Seconds between two attempts to bind the address."""
NEVER = {errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT}
"""What no waiting mends. An address or a name may yet come, at boot or by fail-over, and a port may become free."""
REQUEST_TIMEOUT = 10.0
"""Seconds that a client may take over a request, so that one that says nothing does not keep a thread."""


def address_of(listen: str, instance: str) -> tuple[str, int]:
    """Host and port of `http.listen` for an instance.

    :raises ConfigurationError: if the instance's name does not make it a port.
    """
    host, _, port = listen.replace("%i", instance).rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(
            f"http.listen = {listen}: {port!r} is no port; give this instance a listen address of its own"
        )
    return host.strip("[]"), int(port)


class HttpServer:
    """Serves the probes and the metrics of one instance. `start`, then `stop`."""

    def __init__(
        self,
        settings: Http,
        instance: str,
        health: Health,
        registry: CollectorRegistry,
        *,
        scraped: Callable[[str], None] = lambda _client: None,
        refused: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """Bind the address, without serving yet; if it cannot be had now, that is tried again once started.

        :param scraped: is told the address of a client before it gets metrics.
        :param refused: is told, once, why the address cannot be had.
        :raises ConfigurationError: if the address, the certificate or its key never can be used.
        """
        self._address = address_of(settings.listen, instance)
        self._app = Application(settings, health, registry, scraped)
        self._refused = refused
        self._context = _tls(settings) if settings.tls_certificate else None
        self._reason = ""
        self._server: WSGIServer | None = self._bind()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on; 0 if it could not bind one yet."""
        return 0 if self._server is None else int(self._server.server_port)

    def start(self) -> None:
        if self._reason:
            self._refused(self._reason)
        self._thread.start()

    def stop(self) -> None:
        """Serve no more. Does not wait for requests under way."""
        self._ended.set()
        if self._server is not None:
            if self._thread.is_alive():
                self._server.shutdown()
            self._server.server_close()

    def _serve(self) -> None:
        while self._server is None:
            if self._ended.wait(AGAIN_AFTER):
                return
            with suppress(ConfigurationError):  # such as a name that now means an address of somebody else's
                self._server = self._bind()
        self._server.serve_forever()

    def _bind(self) -> WSGIServer | None:
        host, port = self._address
        try:
            server = make_server(host, port, self._app, _server_class(host), handler_class=_QuietHandler)
        except OSError as error:
            self._reason = f"http.listen = {host}:{port}: {error.strerror or error}"
            if error.errno in NEVER:
                raise ConfigurationError(self._reason) from None
            return None
        if self._context is not None:
            server.socket = self._context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server


class Application:
    """The WSGI application."""

    def __init__(
        self, settings: Http, health: Health, registry: CollectorRegistry, scraped: Callable[[str], None]
    ) -> None:
        self._health = health
        self._scraped = scraped
        self._metrics: Any = make_wsgi_app(registry)
        self._expected: bytes | None = None
        if settings.username:
            pair = f"{settings.username}:{settings.password}".encode()
            self._expected = b"Basic " + base64.b64encode(pair)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        # A probe of the machine's own service manager rarely has a password, and its answer is no secret.
        if path == "/livez":
            return _answered(start_response, self._health.live())
        if path == "/readyz":
            return _answered(start_response, self._health.ready())
        if not self._may_read(environ):
            headers = [("WWW-Authenticate", 'Basic realm="ha-monitor"')]
            return _text(start_response, HTTPStatus.UNAUTHORIZED, "user name and password, please\n", headers)
        if path == "/metrics":
            self._scraped(f"{environ.get('REMOTE_ADDR')} {environ.get('HTTP_USER_AGENT')}")
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        return _text(start_response, HTTPStatus.NOT_FOUND, "there are /livez, /readyz and /metrics\n")

    def _may_read(self, environ: Environ) -> bool:
        if self._expected is None:
            return True
        given = str(environ.get("HTTP_AUTHORIZATION", "")).encode("utf-8", "replace")
        return hmac.compare_digest(given, self._expected)


def _answered(start_response: StartResponse, answer: Answer) -> list[bytes]:
    status = HTTPStatus.OK if answer.good else HTTPStatus.SERVICE_UNAVAILABLE
    body = json.dumps({"status": "ok" if answer.good else "failing", **answer.details}) + "\n"
    return _text(start_response, status, body, [("Content-Type", "application/json")])


def _text(
    start_response: StartResponse, status: HTTPStatus, text: str, headers: list[tuple[str, str]] | None = None
) -> list[bytes]:
    body = text.encode("utf-8")
    fields = dict([("Content-Type", "text/plain; charset=utf-8"), *(headers or []), ("Cache-Control", "no-store")])
    start_response(f"{status.value} {status.phrase}", [*fields.items(), ("Content-Length", str(len(body)))])
    return [body]


def _tls(settings: Http) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"http.tls_certificate, http.tls_key: {error}") from None
    return context


def _server_class(host: str) -> type[ThreadingWSGIServer]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Server(ThreadingWSGIServer):
        address_family = family

        def server_bind(self) -> None:
            # The base class looks the host's name up, which may take the resolver's whole time-out.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
            self.setup_environ()

        def handle_error(self, *_: Any) -> None:
            """A client that hangs up is no event."""

    return Server


class _QuietHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    timeout = REQUEST_TIMEOUT

    def log_message(self, *_: Any) -> None:
        """Nothing: standard error is for what a person must see."""
