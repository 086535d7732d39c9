"""Checks the workers. Changes nothing.

Celery cannot be asked whether a worker sends task events, only told to enable or disable them, and a busy worker may
do so only after the timeout. So the check uses what the instances have recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ha_monitor.broker.address import is_amqp, urls_of
from ha_monitor.broker.control import ANSWER_TIMEOUT, silence_of
from ha_monitor.broker.inspection import prefixes_of_workers
from ha_monitor.broker.redis_layout import layout_of
from ha_monitor.broker.remote_control import answering_workers
from ha_monitor.check.findings import Finding, failed, ok, warning
from ha_monitor.config.schema import Config
from ha_monitor.config.urls import address_of
from ha_monitor.errors import BrokerBlocked, BrokerUnavailable, ConfigurationError, StoreUnavailable
from ha_monitor.events.serializers import refused_serializer
from ha_monitor.store.reader import StoreReader, WorkerEntry

REFUSED_WITHIN = timedelta(minutes=10)
"""For how long a refused message says something about the workers that run now."""
_REJECTED = 50


class Recorded(NamedTuple):
    """What the store has recorded about the workers."""

    online: dict[str, WorkerEntry]
    refused: dict[str, str]
    """Serializers whose messages were refused lately → time of the latest such message."""


def check_workers(config: Config, reported: Collection[str] = ()) -> Iterator[Finding]:
    """Whether workers answer, and whether their task events have been received.

    :param reported: broker problems that have already been reported.
    """
    for url in urls_of(config.broker.url):
        try:
            answering = answering_workers(url, config, ANSWER_TIMEOUT)
        except BrokerBlocked as error:
            yield failed("broker", str(error))
            continue
        except BrokerUnavailable as error:
            if str(error) not in reported:
                yield warning("workers", f"workers cannot be reached: {error}")
            continue
        known, refused = _recorded(config)
        for serializer, at in refused.items():
            yield warning("workers", _refusal(serializer, at, sorted(answering - known.keys())))
        if not answering:
            yield warning("workers", f"{address_of(url)}: {_others_prefix(url, config) or silence_of(config.broker)}")
        for name in sorted(answering | known.keys()):
            yield assess_worker(
                name, known.get(name), answers=name in answering, enable_events=config.broker.enable_events
            )
        return


def _others_prefix(url: str, config: Config) -> str:
    """A text if workers use this Redis with another key prefix, so that nothing reaches them or comes from them;
    otherwise empty.
    """
    if is_amqp(url):
        return ""
    try:
        found = prefixes_of_workers(url, config)
    except BrokerUnavailable:
        return ""
    ours = layout_of(url, config.broker).key_prefix
    if not found or ours in found:
        return ""
    theirs = " and ".join(repr(prefix) for prefix in sorted(found))
    return (
        f"no worker answered, and there are workers with global_keyprefix {theirs}, here it is {ours!r}: neither their "
        "events nor their answers are seen; set broker.transport_options to the application's"
    )


def _refusal(serializer: str, at: str, unheard: list[str]) -> str:
    """:param unheard: workers that answer, but none of whose events could be read."""
    senders = f"most likely of {', '.join(unheard)}" if unheard else "perhaps of a producer"
    return (
        f"events serialized with {serializer} are refused, the latest at {at}, {senders}: "
        f'set event_serializer = "json" in the application'
    )


def assess_worker(name: str, entry: WorkerEntry | None, *, answers: bool, enable_events: bool) -> Finding:
    """The finding about one worker.

    :param entry: its record in the store, if there is one.
    """
    silence = "" if answers else f"; it did not answer within {ANSWER_TIMEOUT:g} s; it may be busy"
    if entry is not None and entry.sends:
        return ok("workers", f"{name} sends task events{silence}")
    if entry is not None and entry.unsent:
        cure = (
            "an instance enables them when it connects to the broker"
            if enable_events
            else "start it with -E, set worker_send_task_events, or set broker.enable_events"
        )
        return warning(
            "workers",
            f"{name} does not send task events: none arrived for its latest {entry.unsent} runs; {cure}{silence}",
        )
    return ok("workers", f"{name}: no task event received yet; run tasks to find out whether it sends them{silence}")


def _recorded(config: Config) -> Recorded:
    reader = StoreReader(config.store, config.node_id)
    try:
        reader.connect()
        entries = reader.workers(config.workers.late_after).entries
        rejected = reader.latest("rejected", _REJECTED)
    except (StoreUnavailable, ConfigurationError):
        return Recorded({}, {})  # `check_store` reports it
    finally:
        reader.close()
    # A worker without heartbeats is late while it has no task.
    there = {one.name: one for one in entries if one.state in ("online", "late")}
    return Recorded(there, refused_lately(rejected, datetime.now(UTC)))


def refused_lately(rejected: list[dict[str, Any]], now: datetime) -> dict[str, str]:
    """Serializers whose messages were refused lately → time of the latest such message.

    :param rejected: the latest samples, newest first.
    """
    found: dict[str, str] = {}
    for sample in rejected:
        serializer, at = refused_serializer(str(sample.get("reason"))), str(sample.get("time"))
        try:
            is_new = now - datetime.fromisoformat(at) < REFUSED_WITHIN
        except (ValueError, TypeError):
            continue
        if serializer and is_new:
            found.setdefault(serializer, at)
    return found
