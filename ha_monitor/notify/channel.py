"""What a channel is: something that takes messages. Each kind is a module in `channels/`."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.clock import Clock
from ha_monitor.errors import HaMonitorError
from ha_monitor.notify.message import Message

DELIVERY_TIMEOUT = 10.0
"""Maximum seconds that one delivery takes. Only a name server can make it longer."""


class NotDelivered(HaMonitorError):
    """A message was not taken. The text names the service and its answer, in one line."""


class TryAgain(NotDelivered):
    """The service is unreachable, or cannot take the message now."""

    def __init__(self, text: str, *, maybe_taken: bool = False, is_answer: bool = False) -> None:
        """
        :param maybe_taken: whether the service may have taken the message nevertheless.
        :param is_answer: whether the service answered so to this message, and may take others.
        """
        super().__init__(text)
        self.maybe_taken = maybe_taken
        self.is_answer = is_answer


class Refused(NotDelivered):
    """The service will not take this message as it is: a person must act. As far as is known, it may take others."""


class LoginRefused(NotDelivered):
    """The service refuses the credentials, so it takes no message. It may lock the account after some attempts."""


class Deadline:
    """The time limit of one delivery."""

    def __init__(self, clock: Clock, seconds: float = DELIVERY_TIMEOUT) -> None:
        self._clock = clock
        self._seconds = seconds
        self._end = clock.monotonic() + seconds

    def share(self, among: int) -> Deadline:
        """An equal share of the remaining time, for the first of several services that are asked in turn."""
        return Deadline(self._clock, max(0.0, self._end - self._clock.monotonic()) / among)

    def left(self, what: str, *, maybe_taken: bool = False) -> float:
        """Seconds until the deadline.

        :param what: what would be missing, such as a service and "no answer"; used in the error's text.
        :raises TryAgain: if no time is left.
        """
        left = self._end - self._clock.monotonic()
        if left <= 0:
            raise TryAgain(f"{what} within {self._seconds:.3g} s", maybe_taken=maybe_taken)
        return left


class Channel(Protocol):
    """Takes messages. Used by one thread. All methods block, at most until the deadline, and raise `NotDelivered`."""

    def deliver(self, message: Message, deadline: Deadline, /) -> str:
        """Deliver a message. Returning means that the service has taken it.

        :returns: what went wrong nevertheless, such as one of several addresses being down; otherwise an empty text.
        """

    def probe(self, deadline: Deadline, /) -> str:
        """Find out whether the service would take a message, as far as possible without sending one.

        :returns: what was found, for a person.
        """
