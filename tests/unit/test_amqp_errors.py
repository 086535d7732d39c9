"""What RabbitMQ says, as one line that tells a person what to do."""

from __future__ import annotations

import amqp.exceptions
import kombu.exceptions
import pytest

from ha_monitor.broker.amqp_errors import explain_conflict, translated_errors
from ha_monitor.errors import BrokerUnavailable, ConfigurationError, HaMonitorError

CURE = (
    "use a new queue with another queue.prefix, or stop all instances, delete the queue "
    "(rabbitmqctl delete_queue celeryev.x) and start them again"
)
DECLARE = (50, 10)


def conflict(argument: str, received: str, current: str) -> str:
    return (
        f"PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'celeryev.x' in vhost '/': "
        f"received {received} but current is {current}"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            conflict("x-message-ttl", "'5000'", "'43200000'"),
            "h:1/: the queue celeryev.x exists with a different x-message-ttl: 43200000; configured is 5000; "
            "set queue.message_ttl = 43200, or " + CURE,
        ),
        (
            conflict("x-expires", "the value '1' of type 'signedint'", "the value '1500' of type 'long'"),
            "h:1/: the queue celeryev.x exists with a different x-expires: 1500; configured is 1; "
            "set queue.expires = 1.5, or " + CURE,
        ),
        (
            conflict("x-queue-type", "'quorum'", "'classic'"),
            "h:1/: the queue celeryev.x exists with a different x-queue-type: classic; configured is quorum; "
            "set queue.type = classic, or " + CURE,
        ),
        (
            conflict("x-max-length", "the value '9' of type 'signedint'", "none"),
            "h:1/: the queue celeryev.x exists with a different x-max-length: none; configured is 9; " + CURE,
        ),
        (
            conflict("durable", "'true'", "'false'"),
            "h:1/: the queue celeryev.x exists with a different durable: false; configured is true; " + CURE,
        ),
        (
            conflict("durable", "'true'", "'false'").replace("queue 'celeryev.x'", "exchange 'celeryev'"),
            "h:1/: the exchange celeryev exists with a different durable: false; configured is true; "
            "broker.exchange must be the exchange that Celery's workers declare",
        ),
    ],
)
def test_a_queue_that_is_there_already_is_explained(text: str, line: str) -> None:
    """Given a queue that exists with other arguments, the line names the argument, both values and the cure in the
    units of the configuration.
    """
    assert explain_conflict(text, "h:1/") == line


@pytest.mark.parametrize(
    ("foreign", "kind", "text"),
    [
        (
            amqp.exceptions.PreconditionFailed(conflict("durable", "'true'", "'false'"), DECLARE),
            ConfigurationError,
            "exists with a different durable",
        ),
        (
            amqp.exceptions.ResourceLocked("RESOURCE_LOCKED - cannot obtain exclusive access", DECLARE),
            ConfigurationError,
            "h:1/: RESOURCE_LOCKED - cannot obtain exclusive access; a queue of this name exists with other properties",
        ),
        (
            amqp.exceptions.PreconditionFailed(
                "PRECONDITION_FAILED - cannot declare queue 'q' in vhost 'my shop': queue limit in vhost 'my shop' (5) "
                "is reached",
                DECLARE,
            ),
            BrokerUnavailable,
            "is reached; raise it: rabbitmqctl set_vhost_limits -p 'my shop' '{\"max-queues\": …}'",
        ),
        (
            amqp.exceptions.PreconditionFailed("PRECONDITION_FAILED - unknown delivery tag 77", (60, 80)),
            BrokerUnavailable,
            "h:1/: PRECONDITION_FAILED - unknown delivery tag 77",
        ),
        (
            amqp.exceptions.PreconditionFailed("PRECONDITION_FAILED - delivery acknowledgement timed out", (0, 0)),
            BrokerUnavailable,
            "delivery acknowledgement timed out",
        ),
        (amqp.exceptions.ConsumerCancelled("x", (60, 30)), BrokerUnavailable, "h:1/: the queue was deleted or moved"),
        (
            amqp.exceptions.AccessRefused("ACCESS_REFUSED - no.\nFor details see the broker logfile.", (50, 10)),
            BrokerUnavailable,
            "h:1/: ACCESS_REFUSED - no.",
        ),
        (
            amqp.exceptions.AccessRefused(
                "ACCESS_REFUSED - access to queue 'celeryev.x' in vhost '/' refused for user 'm'", DECLARE
            ),
            BrokerUnavailable,
            "h:1/: user m may not configure the queue celeryev.x in vhost /; grant it: rabbitmqctl ",
        ),
        (
            amqp.exceptions.NotAllowed("NOT_ALLOWED - vhost v not found", (10, 40)),
            BrokerUnavailable,
            "vhost v not found",
        ),
        (ConnectionRefusedError(111, "Connection refused"), BrokerUnavailable, "h:1/: Connection refused"),
        (TimeoutError("timed out"), BrokerUnavailable, "h:1/: no answer"),
        (
            amqp.exceptions.NotFound(
                "NOT_FOUND - home node 'rabbit@b' of durable queue 'celeryev.x' in vhost '/' is down or inaccessible",
                DECLARE,
            ),
            BrokerUnavailable,
            "is down or inaccessible: the queue exists only on that node; start rabbit@b, or use a quorum queue on ",
        ),
        (
            amqp.exceptions.ConnectionForced("CONNECTION_FORCED - \x1b[2J"),
            BrokerUnavailable,
            r"h:1/: CONNECTION_FORCED - \x1b[2J",
        ),
        (amqp.exceptions.ConnectionForced("Too many heartbeats missed"), BrokerUnavailable, "Too many heartbeats"),
        (
            kombu.exceptions.KombuError("no\nway to amqp://bob:hunter2@rabbit//"),
            BrokerUnavailable,
            "h:1/: no way to amqp://bob:***@rabbit//",
        ),
    ],
)
def test_what_went_wrong_is_told_apart(foreign: Exception, kind: type[HaMonitorError], text: str) -> None:
    """Given an error, only one that a person must cure ends the program; all others are tried again."""
    with pytest.raises(HaMonitorError) as caught, translated_errors("h:1/"):
        raise foreign

    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_programs_own_errors_pass_through() -> None:
    """Given an error that is translated already, it stays what it is."""
    error = ConfigurationError("as it is")

    with pytest.raises(ConfigurationError) as caught, translated_errors("h:1/"):
        raise error

    assert caught.value is error
