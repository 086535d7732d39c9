"""Redis compiles each script, with room for what is added to it."""

from __future__ import annotations

import pytest
import redis

from ha_monitor.store.scripts import Script
from tests.integration.storing import Inside
from tests.support.lua_files import SCRIPTS

MOST_LOCALS, ROOM = 200, 30
"""Of one function, by Lua; of them, those that are left for whoever adds something."""


def with_locals(script: Script, count: int) -> str:
    return "".join(f"local room_{number}\n" for number in range(count)) + script.source


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_keeps_away_from_lua_s_limits(inside: Inside, script: Script) -> None:
    """Given a script with some more locals outside of functions, Redis takes it, and with very many it does not."""
    inside.redis.script_load(with_locals(script, ROOM))

    with pytest.raises(redis.ResponseError, match="200 local variables"):
        inside.redis.script_load(with_locals(script, MOST_LOCALS))
