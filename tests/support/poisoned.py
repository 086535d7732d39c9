"""Runs `ha-monitor` so that a message with a certain text in it kills it: `python -m tests.support.poisoned run …`.

The program itself knows of no such message; the decoder is replaced here, in a process of the tests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ha_monitor.cli.main import main
from ha_monitor.events.decode import Batch, Decoder, Message
from tests.support.crash_points import kill_self

POISON = b"poison"


def install() -> None:
    """Replace the method that decodes."""
    original = Decoder.decode

    def decode(self: Decoder, messages: Iterable[Message], batch: Batch) -> None:
        messages = list(messages)
        if any(POISON in message.body for message in messages):
            kill_self()
        original(self, messages, batch)

    Decoder.decode = decode  # type: ignore[method-assign]


if __name__ == "__main__":
    install()
    sys.exit(main(sys.argv[1:]))
