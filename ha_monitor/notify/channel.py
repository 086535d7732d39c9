"""What a channel is: something that takes messages. Each is a file beside this one."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.clock import Clock
from ha_monitor.errors import HaMonitorError
from ha_monitor.notify.message import Message

LONGEST = 10.0
"""Seconds that one delivery takes at most. Only a name server may make it longer."""


class NotDelivered(HaMonitorError):
    """A message was not taken. Its text says which service said what, in one line."""


class TryAgain(NotDelivered):
    """The service is not there, or cannot take it now."""

    def __init__(self, text: str, *, maybe_taken: bool = False) -> None:
        """:param maybe_taken: whether it may have taken the message all the same."""
        super().__init__(text)
        self.maybe_taken = maybe_taken


class Refused(NotDelivered):
    """The service will not take it like this: a person must act."""


class Deadline:
    """The end of one delivery."""

    def __init__(self, clock: Clock, seconds: float = LONGEST) -> None:
        self._clock = clock
        self._seconds = seconds
        self._end = clock.monotonic() + seconds

    def share(self, among: int) -> Deadline:
        """An equal part of what is left, for the first of several that are asked one after the other."""
        return Deadline(self._clock, max(0.0, self._end - self._clock.monotonic()) / among)

    def left(self, what: str, *, maybe_taken: bool = False) -> float:
        """Seconds until then.

        :param what: what there would not be, such as a service and no answer of it.
        :raises TryAgain: if there are none.
        """
        left = self._end - self._clock.monotonic()
        if left <= 0:
            raise TryAgain(f"{what} within {self._seconds:.3g} s", maybe_taken=maybe_taken)
        return left


class Channel(Protocol):
    """Takes messages. Used by one thread. All methods block, until the deadline at most, and raise `NotDelivered`."""

    def deliver(self, message: Message, deadline: Deadline, /) -> str:
        """Hand over a message. Returning means that the service has taken it.

        :returns: what went wrong all the same, such as one of several addresses that is not there; else an empty text.
        """

    def probe(self, deadline: Deadline, /) -> str:
        """Find out whether it would take one, as far as that can be known without sending any.

        :returns: what was found, for a person.
        """
