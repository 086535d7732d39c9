"""What a page is before it is rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from ha_monitor.errors import HaMonitorError
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.view import View


class Page(NamedTuple):
    """A template, and the values that it shows.

    For the tag of the page (ETag), the texts of `<time>` elements do not count, and of those with the attribute
    `data-clock` nothing does: what says no more than that time goes by belongs there, such as what an answer says it
    has searched, and ages.
    """

    template: str
    """Below `templates/`."""
    values: Mapping[str, Any]
    """Plain values; `rendering.py` adds what all pages have."""
    status: HTTPStatus = HTTPStatus.OK


class NotThere(HaMonitorError):
    """There is nothing of that name. Its text says so to a person."""


PageFunction = Callable[[View, Parameters], Page]
"""Makes a page, in a thread of its own.

It may raise `UsageError` (400), `NotThere` (404) and `StoreUnavailable` (503): their texts are shown.
"""
