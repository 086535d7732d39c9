"""Asks the sentinels which Redis is the primary, while an instance uses one that they named.

After a fail-over by hand the old primary takes writes for some ten seconds more, which the new one never gets; the
sentinels name the new one after a second or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis
import redis.connection
import redis.exceptions

from ha_monitor.clock import Clock
from ha_monitor.schedule import Schedule

ANSWER_WITHIN = 0.2
"""Most seconds that connecting to a sentinel may take from the loop."""
AGAIN_AFTER = 5.0
"""Seconds until the next sentinel is tried after one that could not be asked."""

Address = tuple[str, int]


class SentinelWatch:
    """Asks one sentinel at a time. Waits for nothing but a connection: the answer is read when it is asked again."""

    def __init__(self, sentinels: Sequence[Address], service: str, clock: Clock) -> None:
        self._sentinels = sentinels
        self._service = service
        self._due = Schedule(clock, AGAIN_AFTER)
        self._turn = 0
        self._connection: Any = None
        self._is_asked = False

    def primary(self) -> Address | None:
        """The primary as a sentinel names it in answer to the question of the call before; None if there is none."""
        if self._connection is None and not self._due.is_due():
            return None
        try:
            found = self._ask()
        except (redis.exceptions.RedisError, OSError, ValueError):
            self.close()
            self._due.restart()
            return None
        return found

    def close(self) -> None:
        """Close the connection, if there is one; the next question goes to the next sentinel. Never raises."""
        if self._connection is not None:
            with suppress(redis.exceptions.RedisError, OSError):
                self._connection.disconnect()
        self._connection, self._is_asked = None, False

    def _ask(self) -> Address | None:
        if self._connection is None:
            host, port = self._sentinels[self._turn % len(self._sentinels)]
            self._turn += 1
            make: Any = redis.connection.Connection
            self._connection = make(
                host=host,
                port=port,
                protocol=2,
                socket_timeout=ANSWER_WITHIN,
                socket_connect_timeout=ANSWER_WITHIN,
                client_name="ha-monitor",
            )
            self._connection.connect()
        found = None
        if self._is_asked:
            if not self._connection.can_read(timeout=0):
                raise redis.exceptions.TimeoutError("the sentinel does not answer")
            answer = self._connection.read_response()
            found = (answer[0].decode(), int(answer[1])) if answer else None
        self._connection.send_command("SENTINEL", "get-master-addr-by-name", self._service)
        self._is_asked = True
        return found
