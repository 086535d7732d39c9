"""The HTTP application: probes for everybody, metrics for authorised clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus

from ha_monitor.http.connections import MAX_CONNECTIONS, Client, Refusal
from ha_monitor.http.exchange import READ_METHODS, Reply, Request, text
from ha_monitor.http.passwords import WINDOW, PasswordResult, Passwords
from ha_monitor.metrics.health import Answer, Health
from ha_monitor.metrics.scrapes import Scrapes

MAX_SCRAPERS = MAX_CONNECTIONS // 2
"""Clients that may wait for a scrape at once. They keep their slots meanwhile; the other slots are for probes."""
INDEX = """ha-monitor, an instance's HTTP server
/metrics   for Prometheus
/readyz    200 while it consumes, the store answers, and no batch is stuck; /health is the same
/livez     200 while its loop makes progress
"""
MAX_CLIENT_NAME = 200
"""Characters of a client's name that are kept, at most."""


class Application:
    """Answers requests. Called only in the thread of the HTTP server."""

    def __init__(
        self,
        health: Health,
        scrapes: Scrapes,
        passwords: Passwords | None,
        *,
        scraped: Callable[[str], None],
        refused: Callable[[Refusal], None],
    ) -> None:
        """
        :param passwords: None if no password is required.
        :param scraped: called with the client before it gets metrics.
        """
        # celery-exporter's probe is called /health.
        self._probes = {"/livez": health.live, "/readyz": health.ready, "/health": health.ready}
        self._scrapes = scrapes
        self._passwords = passwords
        self._scraped = scraped
        self._refused = refused
        self._scrapers = 0

    async def answer(self, request: Request, client: Client) -> Reply:
        """The reply to a request."""
        probe = self._probes.get(request.path)
        # The machine's own service manager rarely has a password, and a probe's answer is not secret.
        is_public = probe is not None or request.path == "/"
        if not is_public and (refusal := self._refusal(request, client)) is not None:
            return refusal
        if not is_public and request.path != "/metrics":
            return text(HTTPStatus.NOT_FOUND, "not found; available: /livez, /readyz and /metrics\n")
        if request.method not in READ_METHODS:
            allowed = ", ".join(READ_METHODS)
            return text(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allowed}\n", ("Allow", allowed))
        if request.path == "/":
            return text(HTTPStatus.OK, INDEX)
        return _of(probe()) if probe is not None else await self._metrics(request, client)

    def _refusal(self, request: Request, client: Client) -> Reply | None:
        if self._passwords is None:
            return None
        result = self._passwords.check(request.headers.get("authorization"), client.address)
        if result is PasswordResult.RIGHT:
            return None
        if result is PasswordResult.TOO_MANY:
            self._refused(Refusal.TOO_MANY_PASSWORDS)
            again = ("Retry-After", f"{WINDOW:.0f}")
            return text(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong passwords; try again later\n", again)
        if result is PasswordResult.WRONG:
            self._refused(Refusal.PASSWORD)
        challenge = ("WWW-Authenticate", 'Basic realm="ha-monitor", charset="UTF-8"')
        return text(HTTPStatus.UNAUTHORIZED, "user name and password required\n", challenge)

    async def _metrics(self, request: Request, client: Client) -> Reply:
        if self._scrapers >= MAX_SCRAPERS:
            self._refused(Refusal.CROWDED)
            return text(HTTPStatus.SERVICE_UNAVAILABLE, "too many scrapes at once\n", ("Retry-After", "1"))
        self._scraped(f"{client.address} {request.headers.get('user-agent', '')}"[:MAX_CLIENT_NAME])
        self._scrapers += 1
        try:
            with client.waiting():
                page = await self._scrapes.page(
                    request.headers.get("accept", ""), request.headers.get("accept-encoding", "")
                )
        finally:
            self._scrapers -= 1
        return Reply(HTTPStatus.OK, page.body, page.headers)


def _of(answer: Answer) -> Reply:
    status = HTTPStatus.OK if answer.good else HTTPStatus.SERVICE_UNAVAILABLE
    body = json.dumps({"status": "ok" if answer.good else "failing", **answer.details}) + "\n"
    return text(status, body, ("Content-Type", "application/json"))
