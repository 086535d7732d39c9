"""Answers requests for pages, static files and the interface for programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.errors import StoreUnavailable, UsageError, class_and_reason
from ha_monitor.http.connections import Client
from ha_monitor.http.exchange import READ_METHODS, Reply, Request, text
from ha_monitor.web import etag
from ha_monitor.web.answer_cache import AnswerCache, EncodedAnswer, accepts_gzip, encode_answer, reply_of
from ha_monitor.web.description import description
from ha_monitor.web.endpoints import BY_NAME, TAIL, Endpoint
from ha_monitor.web.headers import secured
from ha_monitor.web.hosts import Hosts
from ha_monitor.web.page import NotFound, Page, PageFunction
from ha_monitor.web.parameters import Parameters, named_in, parse
from ha_monitor.web.reader_pool import ReaderPool, TooManyQuestions
from ha_monitor.web.rendering import Renderer, error_page
from ha_monitor.web.routes import NAMED, OF_PAGES, PAGES
from ha_monitor.web.sign_in import SignIn
from ha_monitor.web.static_files import StaticFiles
from ha_monitor.web.tailing import Tailing
from ha_monitor.web.view import View

API = "/api/v1/"
HTML, JSON = "text/html; charset=utf-8", "application/json"
RETRY_AFTER = 5
"""Seconds after which a page is requested again if the store was unavailable."""
IMMUTABLE = "public, max-age=31536000, immutable"
PLAIN_FILES = {"/robots.txt": "robots.txt", "/favicon.ico": "favicon.ico"}
"""Files that browsers request under fixed names."""
_STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (TooManyQuestions, HTTPStatus.SERVICE_UNAVAILABLE),
)
"""Statuses of the errors whose text the user sees; the text of any other error is only in the log."""
STORE_UNAVAILABLE_TEXT = "the store does not answer at the moment; it is asked again"
STORE_REFUSED_TEXT = "the store refuses to answer; the log of ha-monitor web says why"
SHOWN_ERRORS = tuple(kind for kind, _ in _STATUSES)


class Application:
    """Called only in the server's thread."""

    def __init__(
        self,
        *,
        base: str,
        hosts: Hosts,
        sign_in: SignIn,
        readers: ReaderPool,
        tailing: Tailing,
        cache: AnswerCache,
        renderer: Renderer,
        files: StaticFiles,
        clock: Clock,
        report: Callable[[str], None],
    ) -> None:
        """
        :param base: the path below which the pages are served, without a trailing slash; empty for none.
        :param report: called with the text of an internal error.
        """
        self._base = base
        self._hosts = hosts
        self._sign_in = sign_in
        self._readers = readers
        self._tailing = tailing
        self._cache = cache
        self._renderer = renderer
        self._files = files
        self._clock = clock
        self._report = report

    async def answer(self, request: Request, client: Client) -> Reply:
        """The reply to a request."""
        try:
            reply = await self._answer(request, client)
        except Exception as error:
            self._report(f"{request.path[:100]}: {class_and_reason(error)}")
            reply = text(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the log of ha-monitor web\n")
        return secured(reply)

    async def _answer(self, request: Request, client: Client) -> Reply:
        if (reply := self._early_reply(request, client)) is not None:
            return reply
        request = request._replace(path=request.path.removeprefix(self._base))
        if (file := self._file(request)) is not None:
            return file
        is_data = request.path.startswith(API)
        answer = await (self._data(request, client) if is_data else self._page(request, client))
        accepted = request.headers.get("accept-encoding", "")
        return reply_of(answer, request.headers.get("if-none-match"), accepted)

    def _early_reply(self, request: Request, client: Client) -> Reply | None:
        """The reply to a request that is not an allowed question; None for all others."""
        if not self._hosts.knows(request.headers.get("host")):
            known = "not served under this name: to allow it, add it to web.hosts, or set web.url, and start again\n"
            return text(HTTPStatus.MISDIRECTED_REQUEST, known)
        if request.path == "/livez":  # not secret, and a load balancer rarely has a password
            return text(HTTPStatus.OK, "ok\n")
        refusal = self._sign_in.refusal(request, client.address)
        if refusal is None and request.method not in READ_METHODS:
            allowed = ", ".join(READ_METHODS)
            refusal = text(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allowed}\n", ("Allow", allowed))
        elif refusal is None and self._base and request.path in ("/", self._base):
            refusal = text(HTTPStatus.PERMANENT_REDIRECT, "", ("Location", f"{self._base}/"))
        elif refusal is None and self._base and not request.path.startswith(f"{self._base}/"):
            refusal = text(HTTPStatus.NOT_FOUND, f"the pages are below {self._base}/\n")
        return refusal

    def _file(self, request: Request) -> Reply | None:
        file = self._files.get(request.path)
        kept = IMMUTABLE
        if file is None and request.path in PLAIN_FILES:
            file, kept = self._files.named(PLAIN_FILES[request.path]), "public, max-age=3600"
        if file is None:
            return None
        headers = (("Content-Type", file.type), ("Cache-Control", kept), ("Vary", "Accept-Encoding"))
        if file.compressed is not None and accepts_gzip(request.headers.get("accept-encoding", "")):
            return Reply(HTTPStatus.OK, file.compressed, (*headers, ("Content-Encoding", "gzip")))
        return Reply(HTTPStatus.OK, file.body, headers)

    async def _page(self, request: Request, client: Client) -> EncodedAnswer:
        noun, name, query = named_in(request.path.removeprefix("/"), request.query)
        function = (PAGES if name is None else NAMED).get(noun)
        asked = Parameters()
        try:
            if function is None:
                raise NotFound(f"there is no page {request.path}")
            row = BY_NAME.get((noun, name is not None))
            asked = parse(query, name or "", row.parameters if row is not None else OF_PAGES.get(noun, ()))
            key = ("page", request.path, name, _key_of(asked))
            with client.waiting():
                return await self._cache.get(key, partial(self._make_page, function, asked, request.path))
        except SHOWN_ERRORS as error:
            return self._rendered(self._page_of(error), asked, request.path)

    async def _make_page(self, function: PageFunction, asked: Parameters, path: str) -> EncodedAnswer:
        def question(view: View) -> EncodedAnswer:
            return self._rendered(function(view, asked), asked, path)

        try:
            return await self._readers.ask(partial(_counted, question))
        except SHOWN_ERRORS as error:
            return self._rendered(self._page_of(error), asked, path)

    def _error_text(self, error: Exception) -> str:
        """What the user sees of an error: the store's address, and its own text, are only for the log."""
        if isinstance(error, StoreUnavailable):
            self._report(str(error))
            return STORE_UNAVAILABLE_TEXT if not error.lasting else STORE_REFUSED_TEXT
        return str(error)

    def _rendered(self, page: Page, asked: Parameters, path: str) -> EncodedAnswer:
        html = self._renderer.html(page, asked, path, self._clock.time())
        tag = etag.of_page(html) if page.status is HTTPStatus.OK else ""
        more = (("Retry-After", str(RETRY_AFTER)),) if page.status is HTTPStatus.SERVICE_UNAVAILABLE else ()
        return encode_answer(page.status, HTML, html, tag, more)

    def _page_of(self, error: Exception) -> Page:
        status = _status_of(error)
        return error_page(
            status, self._error_text(error), RETRY_AFTER if status is HTTPStatus.SERVICE_UNAVAILABLE else 0
        )

    def _error_data(self, error: Exception) -> EncodedAnswer:
        status = _status_of(error)
        more = (("Retry-After", str(RETRY_AFTER)),) if status is HTTPStatus.SERVICE_UNAVAILABLE else ()
        return encode_answer(status, JSON, msgspec.json.encode({"error": self._error_text(error)}), more=more)

    async def _data(self, request: Request, client: Client) -> EncodedAnswer:
        noun, name, query = named_in(request.path.removeprefix(API), request.query)
        try:
            if noun == "openapi.json" and name is None:
                return _document(description(self._base + API.rstrip("/")))
            if noun == TAIL.name and name is None:
                asked = parse(query, "", TAIL.parameters)
                with client.waiting():
                    return encode_answer(HTTPStatus.OK, JSON, await self._tailing.answer(asked))
            row = BY_NAME.get((noun, name is not None))
            if row is None:
                raise NotFound(f"there is nothing at {request.path}")
            asked = parse(query, name or "", row.parameters)
            with client.waiting():
                key = ("data", request.path, name, _key_of(asked))
                return await self._cache.get(key, partial(self._make_data, row, asked))
        except SHOWN_ERRORS as error:
            return self._error_data(error)

    async def _make_data(self, row: Endpoint, asked: Parameters) -> EncodedAnswer:
        def question(view: View) -> EncodedAnswer:
            return _document(row.ask(view, asked))

        try:
            return await self._readers.ask(partial(_counted, question))
        except SHOWN_ERRORS as error:
            return self._error_data(error)


def _counted(question: Callable[[View], EncodedAnswer], view: View) -> EncodedAnswer:
    """An answer, with the CPU time that it took."""
    before = time.thread_time()
    answer = question(view)
    return answer._replace(cost=time.thread_time() - before)


def _key_of(asked: Parameters) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(asked.given.items()))


def _document(document: Any) -> EncodedAnswer:
    return encode_answer(HTTPStatus.OK, JSON, msgspec.json.encode(document), etag.of_document(document))


def _status_of(error: Exception) -> HTTPStatus:
    return next(status for kind, status in _STATUSES if isinstance(error, kind))
