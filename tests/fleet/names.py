"""A name server that knows no name."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import Self


class NameServer:
    """Answers each question with: there is no such name."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._server = socketserver.ThreadingUDPServer((address, 53), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        query = self.rfile.read()
        # Its id, "an answer, and no such name" (RFC 1035, 4.1.1), and the one question again, without what follows it.
        end = query.index(b"\0", 12) + 5
        self.wfile.write(query[:2] + b"\x81\x83" + b"\0\1" + bytes(6) + query[12:end])
