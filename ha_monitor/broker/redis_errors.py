"""Errors of a Redis broker, as one line for a person."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from ha_monitor.broker.address import address_of
from ha_monitor.broker.pubsub_limit import SETTING
from ha_monitor.broker.redis_layout import layout_of
from ha_monitor.config.schema import Broker
from ha_monitor.errors import BrokerUnavailable, is_lasting, reason_of
from ha_monitor.rights import redis as rights

_CLOSED = ("closed by server", "reset by peer", "Broken pipe")


def subscription_lost(
    url: str, settings: Broker, error: BaseException, *, was_behind: bool, missing: float
) -> BrokerUnavailable:
    """As `unavailable`, for a confirmed subscription. If the server closed it, the text names the likeliest cause.

    :param was_behind: whether more was sent than could be read.
    :param missing: seconds since all that had been sent was received.
    """
    lost = unavailable(url, settings, error)
    limit = f"{SETTING} pubsub"
    cause = ""
    if any(text in str(error) for text in _CLOSED):
        cause = f": more waited for it than {limit} allows" if was_behind else f" (perhaps by {limit})"
    return BrokerUnavailable(f"{lost}{cause}; all was received until {missing:.1f} s before", lasting=lost.lasting)


def unavailable(url: str, settings: Broker, error: BaseException) -> BrokerUnavailable:
    """The program's error for one of kombu's or redis-py's; it names a missing right."""
    layout = layout_of(url, settings)
    needs = rights.needs_of_broker(unquote(urlsplit(url).username or "default"), layout.keys, layout.channels)
    refusal = rights.explain(str(error), needs)
    return BrokerUnavailable(
        f"{address_of(url)}: {refusal or reason_of(error)}", lasting=refusal is not None or is_lasting(error)
    )
