"""How a store that is far away is told from one each of whose calls takes long."""

from __future__ import annotations

from collections import deque

from ha_monitor.pipeline.latency import INITIAL_IN_FLIGHT, MAX_IN_FLIGHT, MAX_ROUND_TRIP, NEARBY_LATENCY, Latency
from ha_monitor.store.api import SLOW_CALL
from tests.unit.builders import TurnedClock

TIMELY, TIMEOUT = 1.0, 4.0


class Batches:
    """Batches that a store was given, and what is known of its latency. Each answer is waited for until it is there."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.latency = Latency(TIMELY, timeout=TIMEOUT, clock=self.clock)
        self._sent: deque[float] = deque()

    def send(self, count: int = 1) -> None:
        self._sent.extend([self.clock.monotonic()] * count)

    def answer(self, after: float = 0.0) -> None:
        """The oldest is answered for so many seconds from now."""
        asked_at = self.clock.monotonic()
        self.clock.sleep(after)
        self.latency.answered(self._sent.popleft(), asked_at)

    def tick(self, seconds: float) -> None:
        """A tick takes so many seconds, and with it all that are in flight."""
        self.clock.sleep(seconds)
        self.latency.ticked(seconds, len(self._sent))

    @property
    def come_first(self) -> bool:
        return self.latency.blocks_calls(self._sent[0])


def test_calls_wait_for_a_batch_of_a_store_that_is_near() -> None:
    """Given a store that answers at once, another call waits until the batch in flight is answered for."""
    one = Batches()
    one.send()
    one.answer(NEARBY_LATENCY / 2)
    one.send()

    assert one.come_first
    assert not one.latency.overlaps_calls


def test_calls_go_behind_the_batches_of_a_store_that_is_far_away() -> None:
    """Given a store whose answers take long, but all of them together no longer than one, calls go behind them, and
    more and more are in flight.
    """
    one = Batches()
    for _ in range(MAX_IN_FLIGHT):
        one.send(one.latency.max_in_flight)
        one.answer(0.3)
        while one._sent:
            one.answer()
    one.send()

    assert one.latency.overlaps_calls
    assert not one.come_first
    assert one.latency.max_in_flight == MAX_IN_FLIGHT


def test_nothing_goes_behind_a_batch_where_each_takes_long() -> None:
    """Given a store that answers for the second of two batches as long after the first as for that, others wait."""
    one = Batches()
    one.send(2)
    one.answer(1.5 * SLOW_CALL)
    one.answer(1.5 * SLOW_CALL)
    one.send()

    assert one.latency.is_far
    assert one.come_first
    assert not one.latency.overlaps_calls


def test_nothing_goes_behind_a_batch_that_takes_longer_than_usual() -> None:
    """Given a store that is far away, calls wait once it owes an answer for twice as long as it took for the latest."""
    one = Batches()
    one.send()
    one.answer(0.1)
    one.send()
    one.clock.sleep(0.2)
    before = one.come_first
    one.clock.sleep(2 * NEARBY_LATENCY)

    assert (before, one.come_first) == (False, True)


def test_a_single_long_answer_does_not_tell_a_long_way_from_a_slow_call() -> None:
    """Given one answer that took longer than a slow call, and shorter than the longest way, nothing goes behind the
    next batch until another one has shown it.
    """
    one = Batches()
    one.send()
    one.answer((SLOW_CALL + MAX_ROUND_TRIP) / 2)
    one.send(2)
    before = one.come_first
    one.answer(0.3)
    one.answer()
    one.send()

    assert (before, one.come_first) == (True, False)


def test_a_store_that_is_given_up_holds_nothing_back() -> None:
    """Given an answer that is owed for longer than the store itself waits, the next call is made: it finds the end."""
    one = Batches()
    one.send()
    one.clock.sleep(TIMEOUT)

    assert not one.come_first


def test_a_tick_that_waited_for_batches_does_not_make_them_look_timely() -> None:
    """Given a tick that took long since each of the batches before it did, their answers, which are there then, are not
    taken for answers that came at once.
    """
    one = Batches()
    one.send(2)
    one.tick(3 * SLOW_CALL)
    one.answer()
    one.answer()
    one.send()

    assert one.come_first
    assert one.latency.max_in_flight == 1


def test_more_are_in_flight_again_once_the_store_answers_in_time() -> None:
    """Given a store whose calls took long for a while, as many batches as ever are in flight some answers later."""
    one = Batches()
    for after in [0.3] * MAX_IN_FLIGHT + [2 * TIMELY] * 3:
        one.send()
        one.answer(after)
    slowest = one.latency.max_in_flight
    for _ in range(MAX_IN_FLIGHT):
        one.send()
        one.answer(TIMELY)

    assert (slowest, one.latency.max_in_flight) == (1, MAX_IN_FLIGHT)


def test_another_connection_is_got_to_know_anew() -> None:
    """Given many batches in flight as the connection breaks, few are in flight over the next one."""
    one = Batches()
    for _ in range(MAX_IN_FLIGHT):
        one.send()
        one.answer(0.3)
    one.latency.start_anew()

    assert one.latency.max_in_flight == INITIAL_IN_FLIGHT
