"""The events of a broker, as a queue of one's own gets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import amqp

from tests.support.process import wait_until
from tests.support.recording import Recorded


class Capture:
    """A queue bound to all events of a broker."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.amqp = amqp.Connection(f"{parts.hostname}:{parts.port}", virtual_host=parts.path[1:])
        self.amqp.connect()
        self.channel = self.amqp.channel()
        self.channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        self.channel.queue_declare("capture", exclusive=True)
        self.channel.queue_bind("capture", "celeryev", "#")
        self.events: list[dict[str, Any]] = []
        self.messages: list[Recorded] = []
        self.channel.basic_consume("capture", no_ack=True, callback=self._add)

    def _add(self, message: amqp.Message) -> None:
        properties = message.properties
        recorded = Recorded(
            message.delivery_info["routing_key"],
            properties["content_type"],
            properties["content_encoding"],
            message.body,
        )
        self.messages.append(recorded)
        self.events += recorded.events

    def drain(self) -> None:
        """Take what has come: perhaps not all that was sent."""
        with suppress(TimeoutError):
            while True:
                self.amqp.drain_events(timeout=0.1)

    def wait_for_messages(self, count: int) -> None:
        """Wait for so many messages."""

        def seen() -> bool:
            self.drain()
            return len(self.messages) >= count

        wait_until(seen, what=f"{count} messages")

    def wait_for(self, event_type: str, count: int = 1) -> None:
        """Wait for so many events of a type."""

        def seen() -> bool:
            self.drain()
            return self.types()[event_type] >= count

        wait_until(seen, what=f"{count} of {event_type}")

    def types(self) -> Counter[str]:
        """Number of events by type."""
        return Counter(event["type"] for event in self.events)


@contextmanager
def capture(url: str) -> Iterator[Capture]:
    """A capture, closed at the end."""
    captured = Capture(url)
    try:
        yield captured
    finally:
        captured.amqp.collect()
