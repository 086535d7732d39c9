"""A subscription: what it concludes from what it reads, and that it reads no more than there is room for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis.exceptions

from ha_monitor.broker.inbox import Inbox
from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.broker.subscription import NO_REPLY, Subscription
from ha_monitor.config.schema import Broker, Config
from ha_monitor.errors import BrokerUnavailable
from tests.support.process import wait_until
from tests.support.threads import no_thread_left, plain_threads
from tests.unit.builders import TurnedClock

CHANNELS = "/0.celeryev/*"
CONFIRMED = b"*3\r\n$10\r\npsubscribe\r\n$13\r\n/0.celeryev/*\r\n:1\r\n"
MIB = 1024 * 1024


class Link:
    """redis-py's connection, and the server at the other end of it."""

    def __init__(self) -> None:
        self._sock, self.server = socket.socketpair()
        self.commands: list[tuple[Any, ...]] = []

    def connect(self) -> None:
        """It is."""

    def send_command(self, *words: Any, check_health: bool) -> None:
        self.commands.append(words)

    def disconnect(self) -> None:
        self._sock.close()


class Bed:
    """An open subscription, driven by hand, with a clock that the test turns."""

    def __init__(self, most: int = MIB) -> None:
        self.clock, self.link, self.inbox = TurnedClock(), Link(), Inbox(most)
        self.one = Subscription(self.link, CHANNELS, self.inbox, self.clock)

    def open(self) -> Bed:
        self.link.server.sendall(CONFIRMED)
        self.one.open(60)
        self.one.begin()
        return self

    def read(self, seconds_later: float = 0.0, sent: bytes = b"") -> bool:
        self.clock.now += seconds_later
        if sent:
            self.link.server.sendall(sent)
        return self.one.receive_once(0.0)

    @property
    def questions(self) -> list[bytes]:
        return [words[1] for words in self.link.commands if words[0] == "PING"]

    def answer(self) -> bytes:
        """To the latest question."""
        return b"*2\r\n$4\r\npong\r\n$32\r\n%b\r\n" % self.questions[-1]

    def received(self) -> bytes:
        found = b""
        while (piece := self.inbox.take(0.0)) is not None:
            found += piece.data
        return found


@pytest.fixture
def bed() -> Iterator[Bed]:
    one = Bed()
    yield one
    one.one.close()
    one.one.release()
    one.link.server.close()


def test_it_is_open_once_the_server_has_confirmed_and_keeps_what_came_with_that(bed: Bed) -> None:
    """Given an event right behind the confirmation, it is there for who takes the first piece."""
    bed.link.server.sendall(CONFIRMED + b"*4\r\n$8\r\npmessage\r\n$1\r\np\r\n$1\r\nc\r\n$5\r\nevent\r\n")

    bed.one.open(60)
    assert len(bed.inbox) == 0, "it may yet be discarded"
    bed.one.begin()

    assert bed.link.commands == [("PSUBSCRIBE", CHANNELS)]
    piece = bed.inbox.take(0.0)
    assert piece is not None
    assert piece.replies.gets()[-1] == b"event"
    assert piece.replies.gets() is NO_REPLY


def test_a_refusal_is_raised(bed: Bed) -> None:
    """Given a server that refuses the channels, its own words are raised."""
    bed.link.server.sendall(b"-NOPERM this user has no permissions to access one of the channels\r\n")

    with pytest.raises(Exception, match="NOPERM this user has no permissions"):
        bed.one.open(60)


def test_a_silent_server_is_asked_once_and_what_it_owes_is_counted(bed: Bed) -> None:
    """Given a question, the time without an answer counts from then on, as far as it was read; anything that comes is
    a sign of life, and only with the answer the next question is asked."""
    bed.open()
    bed.read(1)
    assert len(bed.questions) == 1
    bed.clock.now += 5
    assert bed.one.silence == 0.0, "nobody has looked"
    bed.read(1)
    assert (len(bed.questions), bed.one.silence) == (1, 6.0)

    bed.read(1, b"event\r\n")
    assert (len(bed.questions), bed.one.silence) == (1, 0.0)
    bed.read(2)
    assert (len(bed.questions), bed.one.silence) == (1, 2.0)
    bed.read(1, bed.answer())
    assert (len(bed.questions), bed.one.silence) == (2, 0.0)


def test_with_an_answer_all_is_there_that_was_sent_before_the_question(bed: Bed) -> None:
    """Given events without an end, and a socket that is empty now and then, it is certain up to the latest question
    that was answered that nothing was missed, also if the answer comes in two pieces."""
    bed.open()
    opened_at = bed.clock.now
    bed.read(1, b"event\r\n")
    asked_at = bed.clock.now
    bed.read(1, b"event\r\n")
    bed.read(1)
    assert bed.one.complete_until == opened_at

    answer = bed.answer()
    bed.read(1, b"event\r\n" + answer[:20])
    assert bed.one.complete_until == opened_at
    bed.read(1, answer[20:] + b"event\r\n")
    assert bed.one.complete_until == asked_at

    bed.link.server.close()
    bed.read(3)
    assert isinstance(bed.one.failure, redis.exceptions.ConnectionError)
    assert bed.one.complete_until == asked_at
    assert not bed.one.is_behind


def test_who_is_left_amid_a_reply_was_behind(bed: Bed) -> None:
    """Given a connection that is closed in the middle of a reply, Redis had more to send."""
    bed.open()
    bed.read(1, b"*4\r\n$8\r\npmes")
    bed.link.server.close()
    bed.read(1)

    assert bed.one.failure is not None
    assert bed.one.is_behind


def test_reading_stops_where_there_is_no_room_and_goes_on_with_it() -> None:
    """Given an inbox that is full, the thread reads no more, which is not taken for silence; when something is taken,
    it goes on, and nothing is missing."""
    bed = Bed(most=1000).open()
    bed.link.server.sendall(b"a" * 1000)
    thread = threading.Thread(target=bed.one.read)
    thread.start()
    wait_until(lambda: not bed.inbox.has_room(), 60, "that the inbox is full", 0.01)

    bed.link.server.sendall(b"b" * 500)
    wait_until(lambda: bed.one.is_behind, 60, "the pause", 0.01)
    bed.clock.now += 100
    assert bed.one.silence == 0.0
    found = b""

    def all_received() -> bool:
        nonlocal found
        found += bed.received()
        return len(found) == 1500

    wait_until(all_received, 60, "the rest", 0.01)
    bed.one.close()
    thread.join(60)

    assert found == b"a" * 1000 + b"b" * 500
    assert not thread.is_alive()
    bed.one.release()
    bed.link.server.close()


# --- the source that takes what was received -----------------------------------------------


def published(number: int) -> bytes:
    """A message, as Redis sends it to who has subscribed."""
    envelope = b'{"body": "%d", "content-type": "application/json"}' % number
    return b"*4\r\n$8\r\npmessage\r\n$1\r\np\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (len(envelope), envelope)


class Source(RedisSource):
    """One whose connections are driven by hand. It has no thread, and reads at each call."""

    def __init__(self) -> None:
        self.clock, self.links = TurnedClock(), list[Link]()
        super().__init__(Config(broker=Broker(url="redis://h")), self.clock, plain_threads(self.clock))

    def _subscribe(self, url: str, greeting: str) -> Subscription:
        self.links.append(Link())
        self.links[-1].server.sendall(CONFIRMED)
        one = Subscription(self.links[-1], CHANNELS, self._inbox, self.clock)
        one.open(60)
        return one

    def take(self) -> list[bytes]:
        return [message.body for message in self.receive(10, 0.0)]


def test_a_stream_that_cannot_be_read_costs_nothing_but_its_connection() -> None:
    """Given something in a stream that is not Redis's, what came before is there, the connection is said to be lost,
    once, and what comes over the next one is read.
    """
    source = Source()
    with no_thread_left():
        source.connect()
        source.links[0].server.sendall(published(1) + b"HTTP/1.1 502 Bad Gateway\r\n")

        assert source.take() == [b"1"]
        with pytest.raises(BrokerUnavailable, match="Protocol error"):
            source.take()
        source.links[0].server.sendall(published(2))
        source.heartbeat()
        source.connect()
        source.links[1].server.sendall(published(3))

        assert source.take() == [b"3"]
        source.close()
    for link in source.links:
        link.server.close()
