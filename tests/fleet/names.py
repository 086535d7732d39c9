"""A name server that knows no name."""

from __future__ import annotations

import socketserver

from tests.support.served import Served


class NameServer(Served):
    """Answers each question with: there is no such name."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(socketserver.ThreadingUDPServer((address, 53), _Handler))


class _Handler(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        query = self.rfile.read()
        # Its id, "an answer, and no such name" (RFC 1035, 4.1.1), and the one question again, without what follows it.
        end = query.index(b"\0", 12) + 5
        self.wfile.write(query[:2] + b"\x81\x83" + b"\0\1" + bytes(6) + query[12:end])
