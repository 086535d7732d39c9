"""The errors of the program, by the required reaction.

Foreign exceptions (kombu, py-amqp, redis-py) are translated where they enter, so that the rest of the
program decides by class alone:

===================  =======================================================================
`ConfigurationError`  a person must act: one line, exit status 78, systemd does not restart
`Unavailable`         wait and try again: broker or store is unavailable
`LeaseLost`           the lease is gone: register anew, emit nothing that was pending
`UsageError`          a person asked for something that there is not: one line, exit status 64
`OutputLost`          nobody takes the lines any more: one line on standard error, exit status 74
===================  =======================================================================
"""

from __future__ import annotations

from ha_monitor.text.visible import visible

_READ = 4000
"""Characters of the text of a foreign exception."""


class HaMonitorError(Exception):
    """Base of every error that the program raises on purpose. Its text is one line for a person."""


class ConfigurationError(HaMonitorError):
    """The program cannot run with this configuration; a retry cannot help."""

    def __init__(self, text: str, key: str = "") -> None:
        """:param key: the setting that is wrong, such as `store.url`, if the text does not say where it comes from."""
        super().__init__(text)
        self.key = key


class UsageError(HaMonitorError):
    """What a person typed means nothing."""


class Unavailable(HaMonitorError):
    """A service that the program depends on is unavailable; retry later."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        """:param lasting: whether waiting alone does not help, as with a wrong password. An instance retries all the
        same, since nothing needs to be restarted once the right is granted; `check` says that a person must act.
        """
        super().__init__(text)
        self.lasting = lasting


class BrokerUnavailable(Unavailable):
    """The broker refused, dropped or did not answer."""


class BrokerBlocked(BrokerUnavailable):
    """The broker has an alarm, and takes nothing from whoever publishes. Those who only consume do not notice."""


class StoreUnavailable(Unavailable):
    """Redis refused, dropped or did not answer. The call in flight may or may not have been applied."""


class StoreRefused(StoreUnavailable):
    """Redis answers, but refused a call. Connecting again does not help."""


class ResultBackendUnavailable(Unavailable):
    """Celery's result backend refused, dropped or did not answer."""


class LeaseLost(HaMonitorError):
    """This instance has no lease any more: another one took its outbox over, or the store has lost it."""


class OutputLost(HaMonitorError):
    """Standard output or the journal takes no more lines. Those that it did not take are announced by another instance,
    or at the next start.
    """


class ServiceMissing(HaMonitorError):
    """A command that the demo needs is not installed on this machine."""


def reason_of(error: BaseException) -> str:
    """The text of a foreign exception, escaped and without known secret patterns, in one line of at most 300
    characters; its class if it has no text.
    """
    try:
        text = str(error)
    except BaseException:  # from a __str__ that fails
        text = ""
    # What it searches for takes a while to make, and most commands meet no error.
    from ha_monitor.text.secrets import BY_LOOKS  # noqa: PLC0415

    # A text of megabytes is not searched to its end; secrets are masked before the text is truncated.
    text = BY_LOOKS.hide(" ".join(text[:_READ].split()))
    return visible(text)[:300] or type(error).__name__
