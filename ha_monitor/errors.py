"""The errors of the program, by what has to be done about them.

Foreign exceptions (kombu, py-amqp, redis-py) are translated where they enter, so that the rest of the
program decides by class alone:

===================  =======================================================================
`ConfigurationError`  a person must act: one line, exit status 78, systemd does not restart
`Unavailable`         wait and try again: the broker or the store is away
`LeaseLost`           another instance took over: register anew, emit nothing that was pending
===================  =======================================================================
"""

from __future__ import annotations

from ha_monitor.text.secrets import BY_LOOKS
from ha_monitor.text.visible import visible

_READ = 4000
"""Characters of the text of a foreign exception."""


class HaMonitorError(Exception):
    """Base of every error that the program raises on purpose. Its text is one line for a person."""


class ConfigurationError(HaMonitorError):
    """The program cannot run as it is configured; trying again would change nothing."""


class Unavailable(HaMonitorError):
    """Something the program depends on is away; trying again later is right."""


class BrokerUnavailable(Unavailable):
    """The broker refused, dropped or did not answer."""


class StoreUnavailable(Unavailable):
    """Redis refused, dropped or did not answer. What was being applied may or may not be done."""


class StoreRefused(StoreUnavailable):
    """Redis answers, and refused a call. As long as that lasts, connecting again is no cure."""


class ResultBackendUnavailable(Unavailable):
    """Celery's result backend refused, dropped or did not answer."""


class LeaseLost(HaMonitorError):
    """This instance's lease ran out and another instance took over its outbox."""


class ServiceMissing(HaMonitorError):
    """A command that the demo needs is not installed on this machine."""


def reason_of(error: BaseException) -> str:
    """What a foreign exception says, visible and without secrets that show by their looks, in one line of at most 300
    characters; its class if it says nothing.
    """
    try:
        text = str(error)
    except BaseException:  # by a __str__ that fails
        text = ""
    # A text of megabytes is not looked at to its end, and a secret is found before it is cut in two.
    text = BY_LOOKS.hide(" ".join(text[:_READ].split()))
    return visible(text)[:300] or type(error).__name__
