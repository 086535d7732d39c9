"""Asks each channel whether it would take a message. None is sent."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.check.findings import Finding, ok, warning
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Config
from ha_monitor.config.secrets import Scrubber
from ha_monitor.notify.channel import Deadline, NotDelivered
from ha_monitor.notify.channels import make_channel


def check_channels(config: Config) -> Iterator[Finding]:
    """One finding per channel. An instance also runs if channels fail."""
    scrub = Scrubber(config)
    for name, settings in config.notify.channels.items():
        channel = make_channel(settings, config.notify.secrets_of(name))
        try:
            yield ok("channel", f"{name}: {scrub(channel.probe(Deadline(SystemClock())))}")
        except NotDelivered as error:
            yield warning("channel", f"{name}: {scrub(str(error))}")
