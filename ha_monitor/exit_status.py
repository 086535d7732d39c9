"""Named exit statuses, from sysexits.h where it has one (systemd uses the same names)."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of the process."""

    OK = 0
    """The command succeeded, or the instance stopped on request with everything finished."""
    FAILURE = 1
    """The command ran, and its result is negative: `check` found a problem, `demo` lost or duplicated something."""
    USAGE = 64
    """The command line is wrong (EX_USAGE)."""
    UNAVAILABLE = 69
    """`status` could not reach the store (EX_UNAVAILABLE)."""
    SOFTWARE = 70
    """A bug in the program (EX_SOFTWARE); the supervisor restarts it."""
    OUTPUT = 74
    """Standard output or the journal no longer accepts lines (EX_IOERR)."""
    CONFIGURATION = 78
    """The configuration is wrong (EX_CONFIG); a restart would change nothing."""
