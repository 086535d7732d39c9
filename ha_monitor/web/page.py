"""A page before it is rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from ha_monitor.errors import HaMonitorError
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.view import View


class Page(NamedTuple):
    """A template, and the values that it shows.

    The tag of the page (ETag) ignores the texts of `<time>` elements, and everything about those with the attribute
    `data-clock`. So whatever changes only because time passes belongs there, such as ages, and what an answer says it
    has searched.
    """

    template: str
    """File name in `templates/`."""
    values: Mapping[str, Any]
    """Plain values; `rendering.py` adds what all pages have."""
    status: HTTPStatus = HTTPStatus.OK


class NotFound(HaMonitorError):
    """Nothing has that name. The text says so to a person."""


PageFunction = Callable[[View, Parameters], Page]
"""Makes a page, in a thread of the pool.

It may raise `UsageError` (400), `NotFound` (404) and `StoreUnavailable` (503): their texts are shown.
"""
