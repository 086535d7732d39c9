"""Delivers messages to one channel in a thread of its own, so that nothing else waits, however long a delivery takes
and however it ends.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple, Protocol

from ha_monitor.clock import Clock
from ha_monitor.errors import class_and_reason
from ha_monitor.notify.channel import Channel, Deadline, LoginRefused, NotDelivered, Refused, TryAgain
from ha_monitor.notify.message import Message
from ha_monitor.pipeline.backoff import Backoff
from ha_monitor.schedule import Schedule
from ha_monitor.store.deliveries import Claim
from ha_monitor.threads import Threads, ThreadUnavailable

FIRST_BACKOFF, MAX_BACKOFF = 1.0, 300.0
"""Seconds until the next attempt after the first failure, and at most."""
REFUSED_BACKOFF = 600.0
"""Seconds until the next attempt after a refusal: a person must act, and may do so at the other end."""
SLOW_AFTER = 60.0
"""Seconds after which a delivery that does not end is reported: a name server may delay it beyond its deadline."""


class Lease(Protocol):
    """Knows whether this instance may still act."""

    def holds_lease(self) -> bool:
        """Whether the lease is valid by this instance's clock. Makes no call; may be called in any thread."""


class Outcome(NamedTuple):
    """The result of a delivery."""

    claim: Claim | None
    """The claim that was given to `send`."""
    error: NotDelivered | None
    """Why the channel did not take the message; None if it did."""
    remark: str = ""
    """What went wrong although the channel took the message."""


class ChannelSender:
    """Delivers one message at a time. The loop calls all methods; none blocks."""

    def __init__(
        self, channel: Channel, lease: Lease, clock: Clock, threads: Threads, every: float = float("inf")
    ) -> None:
        """:param every: seconds after which the channel must get the next message; no pause is longer."""
        self._channel = channel
        self._lease = lease
        self._clock = clock
        self._thread = threads.calls("notify")
        self._call: Future[str] | None = None
        self._claim: Claim | None = None
        self._every = every
        self._slow = Schedule(clock, SLOW_AFTER)
        self.start_anew()

    def start_anew(self) -> None:
        """Forget earlier failures: another instance may have delivered since then. A delivery in progress goes on."""
        self._backoff = Backoff(self._clock, FIRST_BACKOFF, min(MAX_BACKOFF, self._every))
        self._pause = Schedule(self._clock, min(REFUSED_BACKOFF, self._every))
        self._reported = ""
        """The trouble that was reported last; empty if there is none."""
        self._fails = False

    @property
    def is_free(self) -> bool:
        """Whether a message can be sent now."""
        return self._call is None and max(self._backoff.remaining(), self._pause.remaining()) <= 0

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed, other than by a refusal of its message, or does not end."""
        return self._fails

    @property
    def is_delivering(self) -> bool:
        """Whether a message about incidents is under way, or its outcome was not taken yet."""
        return self._call is not None and self._claim is not None

    @property
    def has_outcome(self) -> bool:
        """Whether `take` would return one."""
        return self._call is not None and self._call.done()

    def is_busy_with(self, claim: Claim) -> bool:
        """Whether this message is being delivered, or its outcome was not taken yet."""
        return self._call is not None and self._claim is not None and self._claim.id == claim.id

    def send(self, message: Message, claim: Claim | None) -> None:
        """Start to deliver a message. Allowed only while `is_free`. If the lease is lost by then, nothing is sent."""
        self._claim = claim
        self._slow.restart()
        self._call = self._thread.submit(lambda: self._deliver(message))

    def take(self) -> Outcome | None:
        """The outcome of the delivery, once it is known."""
        if self._call is None or not self.has_outcome:
            return None
        call, self._call = self._call, None
        error: NotDelivered | None = None
        remark = ""
        try:
            remark = call.result()
        except NotDelivered as failure:
            error = failure
        except ThreadUnavailable as failure:
            error = TryAgain(str(failure))
        except Exception as failure:  # unexpected, from a library: only this channel is affected
            error = TryAgain(class_and_reason(failure), maybe_taken=True)
        if error is None:
            self._backoff.succeeded()
        elif isinstance(error, LoginRefused):
            self._pause.restart()
        elif not isinstance(error, Refused):  # what is refused is the caller's concern: others may be taken
            self._backoff.failed()
        return Outcome(self._claim, error, remark)

    def new_trouble(self, outcome: Outcome | None) -> str:
        """A trouble with this channel that was not reported before, as a text for a person; empty if there is none.

        :param outcome: the result of `take`.
        """
        if outcome is None:
            is_slow = self._call is not None and self._slow.is_due()
            self._fails = self._fails or is_slow
            return self._trouble(f"a delivery has not ended after {SLOW_AFTER:g} s") if is_slow else ""
        # A refusal is about this message, and the caller remembers it; a heartbeat is always the same message.
        self._fails = outcome.error is not None and not (outcome.claim and isinstance(outcome.error, Refused))
        return self._trouble(str(outcome.error) if outcome.error else outcome.remark)

    def _trouble(self, text: str) -> str:
        is_new, self._reported = text != self._reported, text
        return text if is_new else ""

    def _deliver(self, message: Message) -> str:
        if not self._lease.holds_lease():
            raise TryAgain("this instance no longer has a lease", maybe_taken=True)
        return self._channel.deliver(message, Deadline(self._clock))
