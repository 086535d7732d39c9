"""Scripts of which one command in Redis can be made to fail, and a store that can be put back to where it was."""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, NamedTuple

import redis

from tests.integration.storing import Instance

PRELUDE = """
local redis = (function(real_redis)
  local calls = 0
  local fail_at, fail_all_after = unpack(real_redis.call('HMGET', 'fault', 'at', 'all_after'))
  fail_at = tonumber(fail_at or nil)

  local function fails()
    calls = calls + 1
    if not fail_at or calls < fail_at or (calls > fail_at and fail_all_after ~= '1') then return false end
    real_redis.call('HSET', 'fault', 'hit', 1)
    return true
  end

  return setmetatable({
    call = function(...)
      if fails() then error('made to fail') end
      return real_redis.call(...)
    end,
    pcall = function(...)
      if not fails() then return real_redis.pcall(...) end
      if fail_all_after == '1' then error('made to fail') end
      return { err = 'ERR made to fail' }
    end,
  }, { __index = real_redis })
end)(redis)
"""


class Fault(NamedTuple):
    """Which command of a script fails."""

    at: int
    """The first that does, from 1."""
    all_after: bool
    """Whether all that come after it fail, too, as when the script is aborted; else only that one."""


TIME_OF_A_CALL = re.compile(r"(A_CALL = \{.* work = )\d+")


def make_faulty(instance: Instance) -> None:
    """From its next connection on, the scripts of an instance fail where `failing` says. However busy the machine, a
    call does all that it was given: the next one would have a fault of its own.
    """
    for name, script in instance.store._scripts.items():
        source = PRELUDE + TIME_OF_A_CALL.sub(r"\g<1>1000000", script.source)
        assert name != "apply" or "work = 1000000" in source
        digest = sha1(source.encode(), usedforsecurity=False).hexdigest()
        instance.store._scripts[name] = script._replace(source=source, sha=digest)


@contextmanager
def failing(client: redis.Redis, fault: Fault) -> Iterator[None]:
    """Makes scripts fail as long as it lasts; `was_hit` says whether one did."""
    client.delete("fault")
    client.hset("fault", mapping={"at": fault.at, "all_after": int(fault.all_after)})
    try:
        yield
    finally:
        client.hdel("fault", "at")


def was_hit(client: redis.Redis) -> bool:
    return bool(client.hexists("fault", "hit"))


class Snapshot:
    """What Redis and some instances were at a moment."""

    def __init__(self, client: Any, *instances: Instance) -> None:
        self._client = client
        self._instances = instances
        self._values = [(key, max(0, client.pttl(key)), client.dump(key)) for key in client.scan_iter()]

    def restore(self) -> list[Instance]:
        """The instances as they were then, on a Redis as it was then."""
        self._client.flushdb()
        for key, ttl, value in self._values:
            self._client.restore(key, ttl, value)
        restored = []
        for instance in self._instances:
            if not instance.store.connected:
                instance.store.connect()  # its connection was that of the one before
            one = copy.copy(instance)
            one.clock, one.store, one.emitted = copy.copy(instance.clock), copy.copy(instance.store), []
            one.store._lease = copy.copy(instance.store._lease)
            one.store._progress = copy.deepcopy(instance.store._progress)
            one.store._rollbacks = copy.copy(instance.store._rollbacks)
            one.store._sent, one.store._applied = deque(), deque()
            one.store._clock = one.store._lease._clock = one.clock
            counts = one.store.counts = copy.copy(instance.store.counts)
            counts._calls, counts._script_options, counts._changes = one.store, copy.copy(counts._script_options), []
            one.store._common = {**one.store._common, "counting": counts._script_options}
            restored.append(one)
        return restored
