"""Recorded events: reading, multiplying and publishing them."""

from __future__ import annotations

import json
import lzma
import re
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import amqp
from celery.events.event import get_exchange
from kombu import Connection

FOLDER = Path(__file__).resolve().parents[1] / "recording"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STAMP = re.compile(r'(?<="timestamp": )\d+(?:\.\d+)?')
_PARTS = re.compile(rf'({_UUID.pattern}|(?<="timestamp": )\d+(?:\.\d+)?|(?<="pid": )\d+)')
_ODD_CONSTANT = 0x9E3779B97F4A7C15
_PID_STEP = 10_000_000
"""More than the kernel's largest pid (2**22), so that copies cannot share one."""


class Recorded(NamedTuple):
    """A message as Celery sent it."""

    key: str
    type: str
    encoding: str
    body: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in it: one, or the list that a worker sent at once."""
        body = json.loads(self.body)
        return body if isinstance(body, list) else [body]


def read_stream(name: str = "stream") -> list[Recorded]:
    """The messages of a recording, ``stream`` or ``small``, in the order of the broker's queue."""
    with lzma.open(FOLDER / f"{name}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [Recorded(**json.loads(line)) for line in lines]


def write_stream(path: Path, messages: Iterable[Recorded]) -> None:
    """Write a recording."""
    with lzma.open(path, "wt", encoding="utf-8", preset=9 | lzma.PRESET_EXTREME) as lines:
        lines.writelines(json.dumps(message._asdict(), ensure_ascii=False) + "\n" for message in messages)


def read_truth(name: str = "stream") -> dict[str, Any]:
    """What is known of a recording from the side of the producer and of the results."""
    return json.loads((FOLDER / f"{name}.truth.json").read_text())


def replicate(messages: Sequence[Recorded], n: int, *, start: float | None = None) -> Iterator[Recorded]:
    """Repeat a recording n times, as if the same work had been done again each time.

    Each copy has UUIDs of its own, the same in every run, and comes after the copy before: its timestamps are
    later. Its processes have other ids, as if all workers had been started again with the same names, because
    their counters begin anew. The first copy is the original, but for the time.

    :param start: time of the first event; that of the recording if None.
    """
    stamps = [float(stamp) for message in messages for stamp in _STAMP.findall(message.body)]
    first, last = min(stamps), max(stamps)
    base = 0.0 if start is None else start - first
    period = last - first + 1
    # Odd elements are what differs between copies: cut once, joined n times.
    cut = [(message, _PARTS.split(message.body)) for message in messages]
    for copy in range(n):
        renamed: dict[str, str] = {}
        shift = base + copy * period
        for message, parts in cut:
            mine = list(parts)
            for index in range(1, len(parts), 2):
                part = parts[index]
                if len(part) == 36:
                    mine[index] = renamed.get(part) or renamed.setdefault(part, rename(part, copy))
                elif "." in part or int(part) > _PID_STEP:
                    mine[index] = repr(float(part) + shift) if shift else part
                else:
                    mine[index] = str(int(part) + copy * _PID_STEP)
            yield message._replace(body="".join(mine))


def rename(uuid: str, copy: int) -> str:
    """The UUID that stands for this one in a copy of the recording; the same one in copy 0."""
    # Exclusive or with a number that differs between copies: no two UUIDs of one copy become the same.
    return uuid[:24] + format(int(uuid[24:], 16) ^ (copy * _ODD_CONSTANT & 0xFFFFFFFFFFFF), "012x")


def publish(url: str, messages: Iterable[Recorded], rate: float | None = None, exchange: str = "celeryev") -> int:
    """Publish messages as a worker does: transient, with their routing keys. Returns how many there were.

    When it returns, the broker has taken all of them: RabbitMQ has confirmed each, which a worker does not ask for.
    Without, a RabbitMQ that is stopped in good order loses what its quorum queues have not written yet.

    :param rate: messages a second; as fast as possible if None.
    """
    if urlsplit(url).scheme.startswith("amqp"):
        return _publish_amqp(url, messages, rate, exchange)
    return _publish_kombu(url, messages, rate, exchange)


def _publish_amqp(url: str, messages: Iterable[Recorded], rate: float | None, exchange: str) -> int:
    parts = urlsplit(url)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port or 5672}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        connect_timeout=10,
        # py-amqp's own is a second: a RabbitMQ that is busy for longer takes nothing meanwhile, and is not gone.
        socket_settings={socket.TCP_USER_TIMEOUT: 120_000},
    )
    count = 0
    with connection:
        channel = connection.channel()
        channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        confirms = Confirms(channel)
        for message in _paced(messages, rate):
            channel.basic_publish(
                amqp.Message(
                    message.body,
                    content_type=message.type,
                    content_encoding=message.encoding,
                    delivery_mode=1,
                ),
                exchange,
                message.key,
            )
            count += 1
            confirms.wait(count, at_most_open=10_000)
        confirms.wait(count, at_most_open=0)
    return count


class Confirms:
    """How many of a channel's messages RabbitMQ has confirmed. It may do so in any order, and many at once."""

    def __init__(self, channel: amqp.Channel) -> None:
        self._connection = channel.connection
        self._all_until = 0
        self._others: set[int] = set()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)

    def wait(self, published: int, *, at_most_open: int) -> None:
        """Wait until no more than so many of the messages are without an answer."""
        while published - self._all_until - len(self._others) > at_most_open:
            self._connection.drain_events(timeout=60)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._all_until = max(self._all_until, tag)
            self._others = {other for other in self._others if other > self._all_until}
        elif tag > self._all_until:
            self._others.add(tag)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        raise RuntimeError(f"RabbitMQ refused message {tag}")


def _publish_kombu(url: str, messages: Iterable[Recorded], rate: float | None, exchange: str) -> int:
    count = 0
    with Connection(url) as connection, connection.Producer(auto_declare=False) as producer:
        target = get_exchange(connection, exchange)
        for message in _paced(messages, rate):
            producer.publish(
                message.body,
                exchange=target,
                routing_key=message.key,
                content_type=message.type,
                content_encoding=message.encoding,
                delivery_mode=1,
                declare=() if count else (target,),
            )
            count += 1
    return count


def _paced(messages: Iterable[Recorded], rate: float | None) -> Iterator[Recorded]:
    if rate is None:
        yield from messages
        return
    begun = time.perf_counter()
    for number, message in enumerate(messages):
        ahead = number / rate - (time.perf_counter() - begun)
        # Shorter pauses are not kept exactly by the system, and would only cost time.
        if ahead > 0.002:
            time.sleep(ahead)
        yield message
