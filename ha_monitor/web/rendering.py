"""Renders pages as HTML. Every value is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2

from ha_monitor.incidents.address import address_of
from ha_monitor.version import __version__
from ha_monitor.web.formatting import FILTERS, harmless
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.static_files import StaticFiles

FOLDER = Path(__file__).parent / "templates"


class Renderer:
    """Renders templates. Besides the values of its page, each template has:

    - `node_id` and `version`;
    - `url(noun, name, **query)`: the address of a page, such as `url("tasks", filter="state=FAILURE")`;
    - `static(file)`: the address of a file in `static/`;
    - `asked`: the `Parameters`; `path`: the page's path below the base, without the query; `noun`: its first part;
    - `now`: when the page was made, in seconds since the epoch.
    """

    def __init__(self, node_id: str, base: str, files: StaticFiles, folder: Path = FOLDER) -> None:
        """:param base: the path below which the pages are served, without a trailing slash; empty for none."""
        self._base = base
        self._files = files
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=harmless,
        )
        self._environment.filters.update(FILTERS)
        self._environment.globals.update(node_id=node_id, version=__version__, url=self.url, static=self._static)

    def url(self, noun: str = "", name: str | None = None, **query: str | int | None) -> str:
        """The address of a page.

        :param name: what the page is about, unquoted; None if it is about all of the noun.
        :param query: empty values are left out.
        """
        path = f"{self._base}/{noun if name is None else address_of(noun, name)}"
        pairs = [(key, str(value)) for key, value in query.items() if value not in (None, "")]
        joint = "&" if "?" in path else "?"
        return f"{path}{joint}{urlencode(pairs, quote_via=quote)}" if pairs else path

    def html(self, page: Page, asked: Parameters, path: str, now: float) -> bytes:
        """The page as it is sent."""
        noun = path.strip("/").partition("/")[0]
        around: Mapping[str, Any] = {"asked": asked, "path": path, "noun": noun, "now": now}
        template = self._environment.get_template(page.template)
        return template.render({**around, **page.values}).encode("utf-8", "backslashreplace")

    def _static(self, name: str) -> str:
        return self._base + self._files.path_of(name)


def error_page(status: HTTPStatus, reason: str, retry: int = 0) -> Page:
    """A page that reports an error.

    :param retry: seconds after which the page is requested again; 0 for never.
    """
    return Page("error.html", {"title": status.phrase, "reason": reason, "retry": retry}, status)
