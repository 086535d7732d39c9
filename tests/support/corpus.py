"""Hostile input: the files of `tests/corpus`, and what would be too large for a file."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parents[1] / "corpus"
MEGABYTE = 1024 * 1024


class Properties(NamedTuple):
    """A message for an AMQP broker."""

    body: bytes
    properties: dict[str, Any]
    """As py-amqp calls them."""


def bodies() -> dict[str, bytes]:
    """Bodies by their names."""
    return _files("bodies")


def envelopes() -> dict[str, bytes]:
    """Payloads for a Redis broker by their names."""
    return _files("envelopes")


def properties() -> dict[str, Properties]:
    """Messages for RabbitMQ by their names."""
    found = {}
    for path in sorted((FOLDER / "properties").glob("*.json")):
        properties = json.loads(path.read_text(encoding="utf-8"))
        if "headers" in properties:
            properties["application_headers"] = properties.pop("headers")
        found[path.stem] = Properties(b64decode(properties.pop("body")), properties)
    return found


LARGE: dict[str, Callable[[], bytes]] = {
    "3 MB of zeros": lambda: b"[" + b"0," * (3 * MEGABYTE // 2) + b"0]",
    "4 MB of empty objects": lambda: b"[" + b"{}," * (MEGABYTE + 1000) + b"{}]",
    "4 MB of empty texts": lambda: b"[" + b'"",' * (MEGABYTE + 1000) + b'""]',
    "4 MB of opening brackets": lambda: b"[" * (4 * MEGABYTE),
    "4 MB of quotes": lambda: b'"' * (4 * MEGABYTE),
    "4 MB of escaped quotes": lambda: b'["' + b'\\"' * (2 * MEGABYTE - 2) + b'"]',
    "100,000 tiny events": lambda: b"[" + b",".join([b'{"type":"a","uuid":"b"}'] * 100_000) + b"]",
    "65,000 invented heartbeats": lambda: (
        b"[" + b",".join(b'{"type":"worker-heartbeat","hostname":"w%d@h"}' % number for number in range(65_000)) + b"]"
    ),
    "an event of 300,000 fields": lambda: (
        b'{"type":"x",' + b",".join(b'"%d":0' % number for number in range(300_000)) + b"}"
    ),
    "200,000 numbers, which is not too many": lambda: b"[" + b",".join([b"1"] * 200_000) + b"]",
    "20,000 wrong events": lambda: b"[" + b",".join([b'{"type":5}'] * 20_000) + b"]",
    "10 MB": lambda: b'{"type": "' + b"x" * (10 * MEGABYTE) + b'"}',
    "2 MB that Python alone can read": lambda: b"[NaN" + b',"\\ud800"' * 200_000 + b"]",
}
"""Bodies of megabytes, by what they are."""


def _files(folder: str) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted((FOLDER / folder).glob("*.bin"))}
