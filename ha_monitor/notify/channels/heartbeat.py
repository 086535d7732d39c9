"""Fetches a URL while the fleet consumes. The service behind it, such as healthchecks.io, notifies people when that
stops: nobody else can if all instances are down.
"""

from __future__ import annotations

from ha_monitor.config.notify import Heartbeat, Secrets
from ha_monitor.notify.channel import Deadline
from ha_monitor.notify.http import connected, place_of, request
from ha_monitor.notify.message import Message


class HeartbeatChannel:
    """See `channel.Channel`; the content of the message does not matter."""

    def __init__(self, settings: Heartbeat, secrets: Secrets) -> None:
        self._url = settings.url or secrets.url

    def deliver(self, _message: Message, deadline: Deadline) -> str:
        request("GET", self._url, deadline)
        return ""

    def probe(self, deadline: Deadline) -> str:
        with connected(self._url, deadline):
            return f"{place_of(self._url)} can be reached"
