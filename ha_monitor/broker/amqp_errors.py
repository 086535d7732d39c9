"""Translates errors of py-amqp, kombu and the socket into the program's own errors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import amqp.exceptions
import kombu.exceptions

from ha_monitor.causes.connection import cause_of
from ha_monitor.causes.service import Service
from ha_monitor.config.schema import Broker
from ha_monitor.errors import BrokerUnavailable, ConfigurationError, HaMonitorError, reason_of
from ha_monitor.rights import rabbitmq as rights

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
_TYPED_VALUE = re.compile(r"the value '(.*)' of type '.*'")
_DEFAULTS = Broker()
_NODE_DOWN = re.compile(r"home node '(?P<node>[^']+)' of .* is down or inaccessible")
_QUEUE_LIMIT = re.compile(r"queue limit in vhost '(?P<vhost>.*?)' .*is reached")


@contextmanager
def translated_errors(address: str, settings: Broker = _DEFAULTS) -> Iterator[None]:
    """Translates the errors of communication with the broker at an address.

    :param settings: name the exchanges on which rights are needed.
    """
    try:
        yield
    except HaMonitorError:
        raise
    except amqp.exceptions.PreconditionFailed as error:
        if conflict := explain_conflict(error.reply_text or str(error), address):
            raise ConfigurationError(conflict) from None
        # The vhost has reached its limit of queues, or an acknowledgement came too late.
        raise BrokerUnavailable(f"{address}: {_text(error)}{_cure_of(error)}") from None
    except amqp.exceptions.ResourceLocked as error:
        # The queue is exclusive to another connection, as Celery's own event receivers declare theirs.
        raise ConfigurationError(
            f"{address}: {_text(error)}; a queue of this name exists with other properties: "
            "choose another queue.prefix, or delete the queue"
        ) from None
    except amqp.exceptions.ConsumerCancelled:
        raise BrokerUnavailable(f"{address}: the queue was deleted or moved; declaring it again") from None
    except (amqp.exceptions.AccessRefused, amqp.exceptions.NotAllowed) as error:
        # Retried, although waiting alone does not help: so nothing needs to be restarted once the right is granted.
        cure = rights.explain(error.reply_text or "", _method_of(error), names_of(settings))
        raise BrokerUnavailable(f"{address}: {cure or _text(error)}", lasting=cure is not None) from None
    except OSError as error:
        scheme = "amqps" if settings.tls else "amqp"
        cause = cause_of(error, Service("broker.url", f"{scheme}:", tls=settings.tls, tls_setting="broker.tls"))
        raise BrokerUnavailable(f"{address}: {cause.text}", lasting=cause.lasting) from None
    except (amqp.exceptions.AMQPError, kombu.exceptions.KombuError) as error:
        raise BrokerUnavailable(f"{address}: {_text(error)}{_cure_of(error)}") from None


def names_of(settings: Broker) -> rights.Names:
    """The exchanges on which rights are needed."""
    return rights.Names(settings.exchange, settings.control_exchange)


def explain_conflict(text: str, address: str) -> str | None:
    """One line that names the argument in which an existing queue or exchange differs, and the remedies; None if the
    text is about something else."""
    match = _INEQUIVALENT.search(" ".join(text.split()))
    if match is None:
        return None
    argument, name = match["argument"], match["name"]
    ours, theirs = _plain(match["ours"]), _plain(match["theirs"])
    setting = _SETTINGS.get(argument) if theirs != "none" else None
    difference = f"the {match['kind']} {name} exists with a different {argument}: {theirs}; configured is {ours}"
    if match["kind"] == "exchange":
        return f"{address}: {difference}; broker.exchange must be the exchange that Celery's workers declare"
    keep = f"set {setting} = {_in_our_units(argument, theirs)}, or " if setting else ""
    return (
        f"{address}: {difference}; {keep}use a new queue with another queue.prefix, or stop all instances, "
        f"delete the queue (rabbitmqctl delete_queue {name}) and start them again"
    )


def _cure_of(error: Exception) -> str:
    text = _text(error)
    if away := _NODE_DOWN.search(text):
        return f": the queue exists only on that node; start {away['node']}, or use a quorum queue on three nodes"
    if full := _QUEUE_LIMIT.search(text):
        return f"; raise it: rabbitmqctl set_vhost_limits -p {shlex.quote(full['vhost'])} '{{\"max-queues\": …}}'"
    return ""


def _plain(value: str) -> str:
    """The value without RabbitMQ's description of its type."""
    typed = _TYPED_VALUE.fullmatch(value)
    return typed[1] if typed else value.strip("'")


def _method_of(error: amqp.exceptions.AMQPError) -> tuple[int, int]:
    """The class and method numbers of the AMQP method that failed; zeros if no method in particular failed."""
    return error.method_sig or (0, 0)


def _in_our_units(argument: str, value: str) -> str:
    # RabbitMQ counts in milliseconds, the configuration in seconds.
    return f"{int(value) / 1000:g}" if argument in _MILLISECONDS and value.isdigit() else value


def _text(error: Exception) -> str:
    text = getattr(error, "reply_text", None) or getattr(error, "strerror", None) or str(error)
    text = str(text).replace("For details see the broker logfile.", "").strip()
    return reason_of(ValueError(text)) if text else type(error).__name__
