"""More instances a host, with settings of their own; all do the same share of the work."""

from __future__ import annotations

from tests.fleet.bed import ASKED_EACH, NINE, THREE, FleetBed, ports
from tests.support.hosts_events import failures, fresh_copies
from tests.support.process import wait_until
from tests.support.recording import publish

Counts = dict[tuple[str, str], int]


def test_one_instance_a_host_becomes_three(fleet: FleetBed) -> None:
    """Given one instance a host, two more are started beside it, which stays as it is. Of the three, the one whose
    settings say so listens, and only that."""
    before = fleet.consuming()

    with fleet.watch.over("scale from 1 to 3 instances a host") as row:
        fleet.ansible.play(**THREE).assert_good()

    assert fleet.names() == NINE
    assert before < fleet.consuming(), "an instance that was there was restarted"
    assert [ports(host) for host in fleet.hosts] == [{9543}] * 3
    row.assert_guarantee()


def test_none_of_nine_instances_starves(fleet: FleetBed) -> None:
    """Given nine instances, each gets its part of a burst. RabbitMQ deals out messages; what workers send in one is
    between one event, when there is little to do, and 24. The burst has both."""
    burst = [*fresh_copies(3), *failures(6000)]
    before = counts(fleet, "events")
    messages = counts(fleet, "messages")

    with fleet.watch.over(f"burst of {sum(len(one.events) for one in burst):,} events over 9 instances") as row:
        publish(fleet.services.broker_url, burst)

    # The load goes on, and an instance tells its numbers once a second.
    wait_until(
        lambda: sum(growth(fleet, "messages", messages).values()) >= len(burst),
        30,
        "the counts of all",
        interval=ASKED_EACH,
    )
    events, shares = growth(fleet, "events", before), growth(fleet, "messages", messages)
    assert events.keys() == NINE
    row.note = f"shares of messages within {spread(shares):.1%}, of events within {spread(events):.1%}"
    # None starves; how the events fall is chance, and a host that was not given time gets fewer messages.
    assert spread(shares) <= 0.5, shares
    assert spread(events) <= 0.5, (shares, events)
    row.assert_guarantee()


def counts(fleet: FleetBed, what: str) -> Counts:
    """How many messages or events each living instance has had."""
    return {
        (one["host"], one["instance"]): one["stats"]["messages"] if what == "messages" else one["events"]
        for one in fleet.status()["instances"]
        if one["alive"]
    }


def growth(fleet: FleetBed, what: str, before: Counts) -> Counts:
    """By how much the counts have grown."""
    return {one: count - before[one] for one, count in counts(fleet, what).items()}


def spread(shares: Counts) -> float:
    """The largest distance of a share from the mean of all, as a part of the mean."""
    mean = sum(shares.values()) / len(shares)
    return max(abs(share - mean) for share in shares.values()) / mean
