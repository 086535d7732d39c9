"""Named exit statuses, after sysexits.h where it has one (systemd names them the same way)."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of the process."""

    OK = 0
    """Done, or stopped on request with everything finished."""
    FAILURE = 1
    """The command ran with a negative result: `check` found a problem, `demo` lost or doubled something."""
    USAGE = 64
    """The command line is wrong (EX_USAGE)."""
    UNAVAILABLE = 69
    """`status` could not reach the store (EX_UNAVAILABLE)."""
    SOFTWARE = 70
    """A bug in the program (EX_SOFTWARE); the supervisor restarts it."""
    OUTPUT = 74
    """Standard output or the journal takes no more lines (EX_IOERR)."""
    CONFIGURATION = 78
    """The configuration is wrong (EX_CONFIG); a restart would change nothing."""
