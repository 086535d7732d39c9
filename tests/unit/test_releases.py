"""Which release of RabbitMQ and Redis the tests start."""

from __future__ import annotations

import pytest

from tests.support.releases import VARIABLE, server_command


def test_a_release_that_is_not_known_is_refused() -> None:
    """Given a name of no release, the tests do not run with another one instead."""
    with pytest.raises(ValueError, match="and not sid"):
        server_command("sh", environ={VARIABLE: "sid"})


def test_what_a_release_does_not_replace_is_this_machine_s() -> None:
    """Given no release, or one of Redis alone, all others are this machine's programs."""
    assert server_command("sh", "/bin", environ={}) == ["/bin/sh"]
    assert server_command("sh", "/bin", environ={VARIABLE: "redis-6.2"}) == ["/bin/sh"]
