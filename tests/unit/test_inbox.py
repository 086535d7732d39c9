"""What waits between the thread that reads a subscription and the loop: in order, bounded, and nothing dropped."""

from __future__ import annotations

import threading

from ha_monitor.broker.inbox import Inbox, Piece


def piece(data: bytes) -> Piece:
    return Piece(None, data)


def test_pieces_come_out_in_order() -> None:
    """Given pieces that were put in, they are taken in that order, and then there is none."""
    inbox = Inbox(100)
    for data in (b"one", b"", b"two"):
        inbox.put(piece(data))

    assert [inbox.take(0.0), inbox.take(0.0), inbox.take(0.0)] == [piece(b"one"), piece(b""), piece(b"two")]
    assert inbox.take(0.0) is None
    assert len(inbox) == 0


def test_there_is_room_up_to_the_limit_and_again_once_something_was_taken() -> None:
    """Given as many bytes as may be kept, there is no room until a piece was taken."""
    inbox = Inbox(10)
    inbox.put(piece(b"x" * 9))
    assert inbox.has_room()
    inbox.put(piece(b"x" * 1000))
    assert not inbox.has_room()

    inbox.take(0.0)
    assert not inbox.has_room()
    inbox.take(0.0)
    assert inbox.has_room()


def test_who_waits_for_a_piece_gets_it() -> None:
    """Given a thread that waits for a piece, it gets the one that is put in."""
    inbox = Inbox(10)
    got: list[Piece | None] = []
    taker = threading.Thread(target=lambda: got.append(inbox.take(60)))
    taker.start()

    inbox.put(piece(b"x"))
    taker.join(60)

    assert got == [piece(b"x")]


def test_who_waits_for_room_goes_on_when_there_is_some() -> None:
    """Given a thread that waits for room in a full inbox, it goes on when a piece is taken."""
    inbox = Inbox(10)
    inbox.put(piece(b"x" * 10))
    got: list[bool] = []
    reader = threading.Thread(target=lambda: got.append(inbox.has_room(60)))
    reader.start()

    inbox.take(0.0)
    reader.join(60)

    assert got == [True]
