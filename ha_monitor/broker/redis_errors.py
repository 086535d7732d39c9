"""Errors of a Redis broker, as one line for a person."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from ha_monitor.broker.address import address_of
from ha_monitor.config.schema import Broker
from ha_monitor.errors import BrokerUnavailable, reason_of
from ha_monitor.rights import redis as rights


def unavailable(url: str, settings: Broker, error: Exception) -> BrokerUnavailable:
    """The program's error for one of kombu's or redis-py's; it names a missing right."""
    parts = urlsplit(url)
    database = parts.path.strip("/")
    number = int(database) if database.isdigit() else 0
    needs = rights.needs_of_broker(unquote(parts.username or "default"), number, settings.exchange)
    return BrokerUnavailable(f"{address_of(url)}: {rights.explain(str(error), needs) or reason_of(error)}")
