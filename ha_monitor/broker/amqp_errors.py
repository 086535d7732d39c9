"""From what py-amqp, kombu and the socket raise to the program's own errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import amqp.exceptions
import kombu.exceptions

from ha_monitor.errors import BrokerUnavailable, ConfigurationError, HaMonitorError

# inequivalent arg 'x-message-ttl' for queue 'celeryev.x' in vhost '/': received '1' but current is '2'
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>queue|exchange) '(?P<name>[^']+)'[^:]*: "
    r"received (?P<ours>.+?) but current is (?P<theirs>.+?)$"
)
_SETTINGS = {
    "x-queue-type": "queue.type",
    "x-message-ttl": "queue.message_ttl",
    "x-max-length": "queue.max_length",
    "x-expires": "queue.expires",
    "x-delivery-limit": "queue.delivery_limit",
}


_MILLISECONDS = frozenset({"x-message-ttl", "x-expires"})


@contextmanager
def translated_errors(address: str) -> Iterator[None]:
    """Translates the errors of talking to the broker at an address."""
    try:
        yield
    except HaMonitorError:
        raise
    except (amqp.exceptions.PreconditionFailed, amqp.exceptions.ResourceLocked) as error:
        raise ConfigurationError(explain_conflict(error.reply_text or str(error), address)) from None
    except amqp.exceptions.ConsumerCancelled:
        raise BrokerUnavailable(f"{address}: the queue was deleted or moved; declaring it again") from None
    except amqp.exceptions.AccessRefused as error:
        raise BrokerUnavailable(f"{address}: access refused: {_text(error)}") from None
    except (amqp.exceptions.AMQPError, kombu.exceptions.KombuError, OSError) as error:
        raise BrokerUnavailable(f"{address}: {_text(error)}") from None


def explain_conflict(text: str, address: str) -> str:
    """One line that names the argument on which a queue that exists differs, and the cure."""
    match = _INEQUIVALENT.search(" ".join(text.split()))
    if match is None:
        return (
            f"{address}: {' '.join(text.split())}; a queue of this name exists with other properties: "
            "choose another node_id, or delete the queue"
        )
    argument, name = match["argument"], match["name"]
    setting, theirs = _SETTINGS.get(argument), match["theirs"].strip("'")
    cure = f"set {setting} = {_in_our_units(argument, theirs)}" if setting else "choose another node_id"
    return (
        f"{address}: the {match['kind']} {name} exists with another {argument}: it has {theirs}, "
        f"configured is {match['ours']}; {cure}, or stop all instances, delete the queue "
        f"(rabbitmqctl delete_queue {name}) and start them again"
    )


def _in_our_units(argument: str, value: str) -> str:
    if value.startswith("none"):
        return "what the queue has, which is nothing"
    # RabbitMQ counts in milliseconds, the configuration in seconds.
    return f"{int(value) / 1000:g}" if argument in _MILLISECONDS and value.isdigit() else value


def _text(error: Exception) -> str:
    text = getattr(error, "reply_text", None) or getattr(error, "strerror", None) or str(error)
    text = str(text).replace("For details see the broker logfile.", "")
    return " ".join(text.split())[:300] or type(error).__name__
