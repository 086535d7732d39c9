"""Output for unexpected errors, and for warnings of libraries while a command runs.

Python itself would write untrusted text unescaped.
"""

from __future__ import annotations

import logging
import threading
from traceback import format_exception

from ha_monitor.errors import OutputLost
from ha_monitor.text.terminal import standard_error


class LibraryMessages(logging.Handler):
    """Writes log messages of libraries to standard error; meant as `logging.lastResort`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        from ha_monitor.config.secrets import mask_url

        standard_error().row(f"ha-monitor: {record.name}: {mask_url(text)}")


def report(error: BaseException, where: str = "") -> None:
    """Write the traceback to standard error, indented, so that no line of it looks like one of the program's."""
    from ha_monitor.config.secrets import mask_url

    rows = mask_url("".join(format_exception(error))).rstrip().split("\n")
    standard_error().rows([f"ha-monitor: this is a bug{where}:", *(f"    {row}" for row in rows)])


def report_of_thread(failed: threading.ExceptHookArgs) -> None:
    """The same for a thread that failed; meant as `threading.excepthook`."""
    # The loop reports a lost output itself, once.
    if failed.exc_value is not None and not isinstance(failed.exc_value, OutputLost):
        report(failed.exc_value, f" in the thread {failed.thread.name if failed.thread else '?'}")
