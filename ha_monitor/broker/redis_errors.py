"""Errors of a Redis broker, as one line for a person."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.exceptions

from ha_monitor import redis_cluster
from ha_monitor.broker.address import service_of
from ha_monitor.broker.pubsub_limit import SETTING
from ha_monitor.broker.redis_layout import layout_of
from ha_monitor.causes.connection import cause_of
from ha_monitor.causes.service import Cause
from ha_monitor.config.schema import Broker
from ha_monitor.config.urls import address_of
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.rights import redis as rights

_CLOSED = ("closed by server", "reset by peer", "Broken pipe")


def subscription_lost(
    url: str, settings: Broker, error: BaseException, *, was_behind: bool, missing: float
) -> BrokerUnavailable:
    """As `unavailable`, for a confirmed subscription. If the server closed it, the text names the most likely cause.

    :param was_behind: whether more was sent than could be read.
    :param missing: seconds since the latest time at which everything that had been sent was received.
    """
    lost = unavailable(url, settings, error)
    limit = f"{SETTING} pubsub"
    cause = ""
    if any(text in str(error) for text in _CLOSED):
        cause = f": more was buffered for it than {limit} allows" if was_behind else f" (perhaps because of {limit})"
    return BrokerUnavailable(
        f"{lost}{cause}; everything was received until {missing:.1f} s before", lasting=lost.lasting
    )


def refuse_cluster(channel: Any, url: str) -> None:
    """Ask the Redis server behind a kombu channel whether it is part of a Redis Cluster.

    :raises ConfigurationError: if it is a node of a Redis Cluster.
    """
    with suppress(redis.exceptions.ResponseError):  # from a Redis that does not know the command
        if redis_cluster.is_in_cluster(channel.client.execute_command(redis_cluster.HELLO)):
            raise redis_cluster.refused("broker.url", address_of(url))


def unavailable(url: str, settings: Broker, error: BaseException) -> BrokerUnavailable:
    """The program's error for an error of kombu or redis-py; the text names a missing right, or a Redis Cluster."""
    if redis_cluster.is_refusal(error):
        return BrokerUnavailable(str(redis_cluster.refused("broker.url", address_of(url))), lasting=True)
    layout = layout_of(url, settings)
    needs = rights.needs_of_broker(unquote(urlsplit(url).username or "default"), layout.keys, layout.channels)
    refusal = rights.explain(str(error), needs)
    cause = cause_of(error, service_of(url, settings)) if refusal is None else Cause(refusal, lasting=True)
    return BrokerUnavailable(f"{address_of(url)}: {cause.text}", lasting=cause.lasting)
