"""Scrapes: generated once for all waiting clients, complete except for corrupt values."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from functools import partial
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from ha_monitor.clock import Clock
from ha_monitor.errors import class_and_reason
from ha_monitor.threads import CallThread, ThreadUnavailable

FRESH_FOR = 0.5
"""Seconds for which a page is reused; at least as long as it took to generate."""
MAX_CACHED_PAGES = 8
"""Cached pages: two formats, compressed or not, and those of unusual clients."""
COMPRESSION = 1
"""The text is so repetitive that a higher level hardly makes it shorter, and takes several times as long."""
GZIP = 16 + zlib.MAX_WBITS
"""The format, for zlib."""
OPENMETRICS = "application/openmetrics-text"
Encode = Callable[[Collector], bytes]
Broken = Callable[[str], None]


class Page(NamedTuple):
    """The page for one kind of client."""

    body: bytes
    headers: tuple[tuple[str, str], ...]


class Text(Protocol):
    """Families that are already text."""

    def pieces(self, now: float, *, openmetrics: bool) -> list[bytes]:
        """All families, in pieces of moderate size.

        :param now: by the monotonic clock.
        """


class Guarded(Collector):
    """A collector whose failure affects only its own families."""

    def __init__(self, collector: Collector, broken: Broken) -> None:
        """:param broken: called with the reason."""
        self._collector = collector
        self._broken = broken

    def collect(self) -> Iterator[Metric]:
        try:
            yield from self._collector.collect()
        except Exception as error:
            self._broken(f"{self._collector}: {class_and_reason(error)}")


class Labelled(Collector):
    """Adds labels to all series of a collector."""

    def __init__(self, collector: Collector, labels: Mapping[str, str]) -> None:
        self._collector = collector
        self._labels = labels

    def __str__(self) -> str:
        return str(self._collector)

    def collect(self) -> Iterator[Metric]:
        for family in self._collector.collect():
            for sample in family.samples:
                sample.labels.update(self._labels)
            yield family


def encoded(registry: Collector, encode: Encode, broken: Broken) -> bytes:
    """All families of a registry, without the series that cannot be written."""
    try:
        return encode(registry)
    except Exception:
        return encode(
            _Families(whole for one in registry.collect() if (whole := _without_invalid(one, encode, broken)))
        )


class Scrapes:
    """Generates pages in a thread, one at a time, so that probes are answered meanwhile."""

    def __init__(
        self, registry: CollectorRegistry, thread: CallThread, clock: Clock, broken: Broken, text: Text | None = None
    ) -> None:
        """:param text: the beginning of each page."""
        self._registry = registry
        self._text = text
        self._thread = thread
        self._clock = clock
        self._broken = broken
        self._in_progress: dict[tuple[str, bool], asyncio.Future[Page]] = {}
        self._cached: dict[tuple[str, bool], tuple[float, Page]] = {}
        """Pages, and until when each is fresh."""
        self.made = 0

    async def page(self, accept: str, accept_encoding: str) -> Page:
        """The page for a client with these header fields."""
        encode, content_type = _encoder(accept)
        kind = content_type, gzip_accepted(accept_encoding)
        if (page := self._fresh(kind)) is not None:
            return page
        in_progress = self._in_progress.get(kind)
        if in_progress is None:
            make = partial(self._make, encode, *kind)
            in_progress = self._in_progress[kind] = asyncio.wrap_future(self._thread.submit(make))
            in_progress.add_done_callback(lambda _: self._in_progress.pop(kind, None))
        try:
            return await asyncio.shield(in_progress)  # a client that gives up must not cancel it for the others
        except ThreadUnavailable:
            return self._fresh(kind) or self._make(encode, *kind)

    def give_up(self) -> None:
        """Cancel everything, because the server is stopping."""
        for in_progress in list(self._in_progress.values()):
            in_progress.cancel()
        self._in_progress.clear()

    def _fresh(self, kind: tuple[str, bool]) -> Page | None:
        until, page = self._cached.get(kind, (0.0, None))
        return page if self._clock.monotonic() < until else None

    def _make(self, encode: Encode, content_type: str, compress: bool) -> Page:
        began = self._clock.monotonic()
        pieces = [*self._text_pieces(began, content_type), encoded(self._registry, encode, self._broken)]
        headers: tuple[tuple[str, str], ...] = (("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding"))
        if compress:
            headers = (*headers, ("Content-Encoding", "gzip"))
            pieces = compressed(pieces)
        page = Page(b"".join(pieces), headers)
        self.made += 1
        ended = self._clock.monotonic()
        self._cached.pop((content_type, compress), None)
        if len(self._cached) >= MAX_CACHED_PAGES:
            self._cached.pop(next(iter(self._cached)), None)
        self._cached[content_type, compress] = ended + max(FRESH_FOR, ended - began), page
        return page

    def _text_pieces(self, now: float, content_type: str) -> list[bytes]:
        if self._text is None:
            return []
        try:
            return self._text.pieces(now, openmetrics=content_type.startswith(OPENMETRICS))
        except Exception as error:
            self._broken(f"{self._text}: {class_and_reason(error)}")
            return []


def compressed(pieces: Iterable[bytes]) -> list[bytes]:
    """The pieces as gzip, each compressed by itself: joining a very long text would block the loop."""
    compressor = zlib.compressobj(COMPRESSION, zlib.DEFLATED, GZIP)
    return [*map(compressor.compress, pieces), compressor.flush()]


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _encoder(accept: str) -> tuple[Encode, str]:
    try:
        return choose_encoder(accept)
    except Exception:  # an invalid version number
        return choose_encoder("")


def _without_invalid(family: Metric, encode: Encode, broken: Broken) -> Metric | None:
    """The family without the series that cannot be written; None if none is left."""
    if _encoding_error(family, encode) is None:
        return family
    whole = copy(family)
    whole.samples = []
    if (error := _encoding_error(whole, encode)) is not None:
        broken(f"{family.name}: {error}")
        return None
    for sample in family.samples:
        one = copy(family)
        one.samples = [sample]
        if (error := _encoding_error(one, encode)) is None:
            whole.samples.append(sample)
        else:
            broken(f"{family.name}: {error}")
    return whole


def _encoding_error(family: Metric, encode: Encode) -> str | None:
    """Why the family cannot be written; None if it can."""
    try:
        encode(_Families([family]))
    except Exception as error:
        return class_and_reason(error)
    return None
