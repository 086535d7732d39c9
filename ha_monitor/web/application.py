"""Answers the requests of readers: pages, static files, and the interface for programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import msgspec

from ha_monitor.clock import Clock
from ha_monitor.errors import StoreUnavailable, UsageError
from ha_monitor.http.connections import Client
from ha_monitor.http.exchange import READ_METHODS, Reply, Request, text
from ha_monitor.web.headers import secured
from ha_monitor.web.nouns import BY_NAME
from ha_monitor.web.page import NotThere, Page
from ha_monitor.web.parameters import Parameters, parse
from ha_monitor.web.readers import Crowded, Readers
from ha_monitor.web.rendering import Renderer, error_page
from ha_monitor.web.routes import NAMED, PAGES
from ha_monitor.web.static_files import StaticFiles
from ha_monitor.web.view import View

API = "/api/v1/"
HTML = ("Content-Type", "text/html; charset=utf-8")
JSON = ("Content-Type", "application/json")
AGAIN = 5
"""Seconds after which a page is asked for again when the store was away."""


class Application:
    """Called in the thread of the server alone."""

    def __init__(self, readers: Readers, renderer: Renderer, files: StaticFiles, clock: Clock) -> None:
        self._readers = readers
        self._renderer = renderer
        self._files = files
        self._clock = clock

    async def answer(self, request: Request, client: Client) -> Reply:
        """The reply to a request."""
        return secured(await self._answer(request, client))

    async def _answer(self, request: Request, client: Client) -> Reply:
        if request.method not in READ_METHODS:
            allowed = ", ".join(READ_METHODS)
            return text(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allowed}\n", ("Allow", allowed))
        if (file := self._files.get(request.path)) is not None:
            return Reply(HTTPStatus.OK, file.body, (("Content-Type", file.type),))
        if request.path.startswith(API):
            return await self._data(request)
        return await self._page(request)

    async def _page(self, request: Request) -> Reply:
        noun, _, name = request.path.removeprefix("/").partition("/")
        function = (NAMED if name else PAGES).get(noun)
        asked = Parameters()
        try:
            if function is None:
                raise NotThere(f"there is no page {request.path}")
            row = BY_NAME.get((noun, bool(name)))
            asked = parse(request.query, name, row.parameters if row is not None else ())
            return await self._readers.ask(partial(self._made, function, asked, request.path))
        except NotThere as error:
            page = error_page(HTTPStatus.NOT_FOUND, str(error))
        except UsageError as error:
            page = error_page(HTTPStatus.BAD_REQUEST, str(error))
        except (StoreUnavailable, Crowded) as error:
            page = error_page(HTTPStatus.SERVICE_UNAVAILABLE, str(error), AGAIN)
        return self._reply(page, asked, request.path)

    def _made(self, function: Callable[[View, Parameters], Page], asked: Parameters, path: str, view: View) -> Reply:
        return self._reply(function(view, asked), asked, path)

    def _reply(self, page: Page, asked: Parameters, path: str) -> Reply:
        return Reply(page.status, self._renderer.html(page, asked, path, self._clock.time()), (HTML,))

    async def _data(self, request: Request) -> Reply:
        noun, _, name = request.path.removeprefix(API).partition("/")
        row = BY_NAME.get((noun, bool(name)))
        try:
            if row is None:
                raise NotThere(f"there is nothing at {request.path}")
            asked = parse(request.query, name, row.parameters)
            document = await self._readers.ask(lambda view: msgspec.json.encode(row.ask(view, asked)))
        except NotThere as error:
            return _refused(HTTPStatus.NOT_FOUND, error)
        except UsageError as error:
            return _refused(HTTPStatus.BAD_REQUEST, error)
        except (StoreUnavailable, Crowded) as error:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, error)
        return Reply(HTTPStatus.OK, document, (JSON,))


def _refused(status: HTTPStatus, error: Exception) -> Reply:
    return Reply(status, msgspec.json.encode({"error": str(error)}), (JSON,))
