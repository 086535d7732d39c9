"""The three standard file descriptors of the process."""

from __future__ import annotations

import os
import sys

_STANDARD = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def open_closed() -> frozenset[int]:
    """Open the null device in place of those that the caller has closed; returns which these were.

    Otherwise the next file or socket would get such a number, and lines would be written into it.
    """
    closed = frozenset(number for number in _STANDARD if not _is_open(number))
    for number in sorted(closed):
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        name, mode = _STANDARD[number]
        setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    return closed


def forget_output() -> None:
    """Redirect standard output to nothing. Otherwise Python would fail when it flushes at exit, and print an error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
