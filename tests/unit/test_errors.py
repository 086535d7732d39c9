"""Which failures waiting does not mend."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
import redis.exceptions

from ha_monitor.errors import is_lasting


def raised(error: Exception) -> Exception:
    """The error as redis-py raises it: one of its own, with that of the socket as the context."""
    try:
        try:
            raise error
        except Exception:
            raise redis.exceptions.ConnectionError("Error connecting")  # noqa: B904 - as redis-py does
    except redis.exceptions.ConnectionError as outer:
        return outer


@pytest.mark.parametrize("seen_as", [lambda error: error, raised], ids=["itself", "wrapped"])
@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), True),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), False),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), True),
        (ssl.SSLError(1, "wrong version number"), False),
        (ConnectionRefusedError(111, "Connection refused"), False),
        (TimeoutError("timed out"), False),
    ],
    ids=repr,
)
def test_what_waiting_does_not_mend(seen_as: Callable[[Exception], Exception], error: Exception, lasting: bool) -> None:
    """Given a failure to connect, an unknown name and an untrusted certificate last; what the network may mend does
    not.
    """
    assert is_lasting(seen_as(error)) is lasting
