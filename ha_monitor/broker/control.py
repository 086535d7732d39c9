"""What the monitor asks of the workers."""

from __future__ import annotations

from celery import Celery

from ha_monitor.broker.address import connection_to
from ha_monitor.config.schema import Broker


def greet_workers(url: str, settings: Broker) -> str | None:
    """Ask all workers for a heartbeat, and to send task events where `broker.enable_events` says so.

    A connection of its own, so that a broker that forbids it does not cost the events.

    :returns: what went wrong, if something did: the monitor works without.
    """
    try:
        app = Celery("ha-monitor", set_as_current=False, broker=url)
        with connection_to(url, settings, options={}) as connection:
            app.control.broadcast("heartbeat", connection=connection)
            if settings.enable_events:
                app.control.enable_events(connection=connection)
    except Exception as error:  # kombu's transports raise their own kinds, and none may stop the monitor
        return " ".join(str(error).split())[:300] or type(error).__name__
    return None
