"""Services of a test's own to which messages about incidents are sent."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as Server
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from tests.support.certificates import Certificate
from tests.support.served import Served


class Received(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[BaseHTTPRequestHandler, Received], None]


def answering(status: int = 200, body: bytes = b"", **headers: str) -> Behaviour:
    """Answers so."""

    def answer(handler: BaseHTTPRequestHandler, _received: Received) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def trickling(piece: bytes, until: threading.Event) -> Behaviour:
    """Answers a piece at a time, and never comes to an end."""

    def answer(handler: BaseHTTPRequestHandler, _received: Received) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not until.wait(0.05):
            handler.wfile.write(piece)

    return answer


class HttpReceiver(Served):
    """An HTTP server that keeps the requests, and behaves as a test wants."""

    def __init__(self, behaviour: Behaviour | None = None, certificate: Certificate | None = None) -> None:
        self.behaviour = behaviour or answering()
        self.received: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                received = Received(self.command, self.path, dict(self.headers.items()), body)
                receiver.received.append(received)
                receiver.behaviour(self, received)

            do_GET = do_POST = handle_any

            def log_message(self, *_arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_arguments: object) -> None:
                pass  # a client that went away

        server = Server(("127.0.0.1", 0), Handler)
        super().__init__(server)
        self._port = server.server_port
        self._scheme = "http"
        if certificate is not None:
            self._scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._port}/hook"


class MailReceiver(Controller):
    """A mail server that keeps the mails."""

    def __init__(self, certificate: Certificate | None = None, password: str = "") -> None:
        """
        :param certificate: offers and requires STARTTLS with it.
        :param password: for the user `monitor`; empty to ask for none.
        """
        self.mails: list[Message] = []
        self.before: Callable[[Message], str] = lambda _mail: "250 OK"
        """Answers a mail that was kept."""
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)

        def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
            good = isinstance(data, LoginPassword) and data.password == password.encode()
            return AuthResult(success=good, handled=False)

        options: dict[str, Any] = {"tls_context": context, "require_starttls": context is not None}
        if password:
            options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": context is not None}
        super().__init__(self, hostname="127.0.0.1", port=_free(), **options)

    def come_back(self) -> None:
        """Serve again, after `stop`."""
        self.loop = asyncio.new_event_loop()
        self.start()

    async def handle_DATA(self, _server: Server, _session: Any, envelope: Envelope) -> str:
        mail = email.message_from_bytes(_bytes(envelope.content), policy=email.policy.default)
        self.mails.append(mail)
        return self.before(mail)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _bytes(content: bytes | str | None) -> bytes:
    return content.encode() if isinstance(content, str) else content or b""


def _free() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


class SilentServer:
    """Takes connections, and then says a byte now and then, or nothing at all."""

    def __init__(self, says: bytes = b"") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._says = says
        self._ended = threading.Event()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            while not self._ended.is_set():
                time.sleep(0.05)
                try:
                    connection.sendall(self._says)
                except OSError:
                    return

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listener.close()
