"""`ha-monitor notify test`: sends a test message to the channels, so that a person sees whether and how it arrives."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ha_monitor.cli.answers import as_typed
from ha_monitor.config.load import read
from ha_monitor.errors import UsageError
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import Painted, standard_output

if TYPE_CHECKING:
    from ha_monitor.config.schema import Config
    from ha_monitor.notify.message import Message


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "notify",
        parents=[common],
        help="send a test message to the channels that are notified of incidents",
        description="Sends a message that says that it is a test to one channel, or to all in [notify.channels], and "
        "says what became of it. Exit status 0 if each was taken, 1 if one was not.",
        epilog="examples:\n  ha-monitor notify test\n  ha-monitor notify test pager",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["test"], metavar="test", help="send a test message")
    parser.add_argument("channel", nargs="?", metavar="CHANNEL", help="name of the channel; without, all of them")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> ExitStatus:
    """Send the messages, and print a line for each channel."""
    loaded = read(options.config, os.environ)
    loaded.require_channels()
    config = loaded.config
    channels = config.notify.channels
    if not channels:
        raise UsageError("there is no channel: add one to [notify.channels]; docs/being-told.md shows how")
    if options.channel is not None and options.channel not in channels:
        raise UsageError(f"no channel is called {as_typed(options.channel)}; there are {', '.join(channels)}")
    chosen = list(channels) if options.channel is None else [options.channel]
    output, status = standard_output(), ExitStatus.OK
    for name, error in _sent(config, chosen):
        if error:
            status = ExitStatus.FAILURE
        output.row(Painted("failed" if error else "taken ", "31" if error else "32"), f"  {name}: {error or 'sent'}")
    return status


def _sent(config: Config, names: list[str]) -> Iterator[tuple[str, str]]:
    """The name of each channel, and what went wrong; empty if nothing did."""
    from ha_monitor.clock import SystemClock
    from ha_monitor.config.secrets import Scrubber
    from ha_monitor.notify.channel import Deadline, NotDelivered
    from ha_monitor.notify.channels import make_channel

    scrub = Scrubber(config)
    for name in names:
        channel = make_channel(config.notify.channels[name], config.notify.secrets_of(name))
        clock = SystemClock()
        try:
            yield name, scrub(channel.deliver(_message(config, name, clock.time()), Deadline(clock)))
        except NotDelivered as error:
            yield name, scrub(str(error))


def _message(config: Config, channel: str, now: float) -> Message:
    from ha_monitor.notify.message import Message, Notice
    from ha_monitor.store.incidents import Incident, Phase, Severity

    incident = Incident(
        id=f"test-{int(now)}",
        kind="test",
        key=channel,
        severity=Severity.WARN,
        phase=Phase.FIRING,
        since=now,
        changed=now,
        summary=f"this is a test of the channel {channel}: nothing is wrong",
        command=f"ha-monitor notify test {channel}",
    )
    notice = Notice(f"{incident.id}.{channel}.1", Phase.FIRING, incident)
    return Message(notice.id, config.node_id, (notice,), now, config.pages_url.rstrip("/"))
