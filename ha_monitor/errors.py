"""The errors of the program, by the required reaction.

Exceptions of libraries (kombu, py-amqp, redis-py) are translated where they enter, so that the rest of the
program decides by the class alone:

===================  =======================================================================
`ConfigurationError`  a person must act: one line, exit status 78, systemd does not restart
`Unavailable`         wait and try again: broker or store is unavailable
`LeaseLost`           the lease is lost: register again, emit nothing that was pending
`UsageError`          a person asked for something that does not exist: one line, exit status 64
`OutputLost`          the output no longer accepts lines: one line on standard error, exit status 74
===================  =======================================================================
"""

from __future__ import annotations

from ha_monitor.text.visible import cut, visible

_READ = 4000
"""Characters that are read of the text of a library's exception."""


class HaMonitorError(Exception):
    """Base class of all errors that the program raises on purpose. The text is one line for a person."""


class ConfigurationError(HaMonitorError):
    """The program cannot run with this configuration; a retry cannot help."""

    def __init__(self, text: str, key: str = "") -> None:
        """:param key: the wrong setting, such as `store.url`, if the text does not say where it was set."""
        super().__init__(text)
        self.key = key


class UsageError(HaMonitorError):
    """What a person typed has no meaning."""


class Unavailable(HaMonitorError):
    """A service that the program depends on is unavailable; try again later."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        """:param lasting: True if waiting alone does not help, as with a wrong password. An instance retries anyway, so
        that nothing needs to be restarted once the cause is removed; `check` says that a person must act.
        """
        super().__init__(text)
        self.lasting = lasting


class BrokerUnavailable(Unavailable):
    """The broker refused or closed the connection, or did not answer."""


class BrokerBlocked(BrokerUnavailable):
    """The broker has an alarm, and accepts no messages from publishers. Connections that only consume do not notice."""


class StoreUnavailable(Unavailable):
    """Redis refused or closed the connection, or did not answer. The call in flight may have been applied or not."""


class StoreRefused(StoreUnavailable):
    """Redis answers, but refused a call. Reconnecting does not help."""


class ResultBackendUnavailable(Unavailable):
    """Celery's result backend refused or closed the connection, or did not answer."""


class LeaseLost(HaMonitorError):
    """This instance no longer has a lease: another instance took over its outbox, or the store has lost the lease."""


class OutputLost(HaMonitorError):
    """Standard output or the journal no longer accepts lines. Another instance announces the lines that it did not
    take, or this one does so at its next start.
    """


class ServiceMissing(HaMonitorError):
    """A command that the demo needs is not installed on this machine."""


def reason_of(error: BaseException, most: int = 300) -> str:
    """The text of a library's exception, escaped and without known patterns of secrets, as one line; the name of its
    class if it has no text.

    :param most: characters. A longer text is cut, with a mark, so that the log can mask the beginning of a configured
        password there.
    """
    try:
        text = str(error)
    except BaseException:  # from a __str__ that fails
        text = ""
    # Building the patterns takes a while, and most commands meet no error.
    from ha_monitor.text.secrets import BY_LOOKS  # noqa: PLC0415

    # A text of megabytes is not searched to the end; secrets are masked before the text is truncated.
    text = BY_LOOKS.hide(" ".join(cut(text, _READ).split()))
    return cut(visible(text), most) or type(error).__name__


def class_and_reason(error: BaseException) -> str:
    """An exception of unexpected code, such as `TimeoutError: no answer`; only `TimeoutError` if it has no text."""
    name, reason = type(error).__name__, reason_of(error)
    return name if reason == name else f"{name}: {reason}"
