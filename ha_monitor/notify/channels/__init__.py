"""The kinds of channels, one module each, and the one place that chooses between them."""

from __future__ import annotations

from ha_monitor.config.notify import (
    Alertmanager,
    ChannelSettings,
    Email,
    Exec,
    Heartbeat,
    PagerDuty,
    Secrets,
    Webhook,
)
from ha_monitor.notify.channel import Channel
from ha_monitor.notify.channels.alertmanager import RESEND, RESOLVED_RESENT_FOR, AlertmanagerChannel
from ha_monitor.notify.channels.email import EmailChannel
from ha_monitor.notify.channels.exec import ExecChannel
from ha_monitor.notify.channels.heartbeat import HeartbeatChannel
from ha_monitor.notify.channels.pagerduty import PagerDutyChannel
from ha_monitor.notify.channels.webhook import WebhookChannel
from ha_monitor.notify.plan import Pace


def make_channel(settings: ChannelSettings, secrets: Secrets) -> Channel:
    """The channel for the configured settings."""
    match settings:
        case Alertmanager():
            return AlertmanagerChannel(settings, secrets)
        case PagerDuty():
            return PagerDutyChannel(settings, secrets)
        case Webhook():
            return WebhookChannel(settings, secrets)
        case Email():
            return EmailChannel(settings, secrets)
        case Exec():
            return ExecChannel(settings)
        case Heartbeat():
            return HeartbeatChannel(settings, secrets)


def pace_of(settings: ChannelSettings) -> Pace | None:
    """How often the channel is notified of incidents; None if it is not notified of any."""
    match settings:
        case Heartbeat():
            return None
        case Alertmanager():
            return Pace(
                group_wait=0.0,
                group_interval=0.0,
                repeat_interval=RESEND,
                max_per_hour=None,
                resolved_resent_for=RESOLVED_RESENT_FOR,
            )
        case PagerDuty():
            # It needs a request for each incident, and a message counts as a whole: so each has time of its own.
            return Pace(group_interval=0.0, max_per_hour=None, max_parts=1)
        case _:
            return Pace()
