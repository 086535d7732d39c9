"""Lines for people at a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from ha_monitor.outputs.line import EventLine

_SHOWN = ("instance", "task_name", "task_id", "worker", "queue", "runtime", "queue_time", "retries", "exception")
_HIDDEN = frozenset({"node_id", "host", "pid", "event_id", "event_time", "root_id", "parent_id"})


def console_renderer(colors: bool) -> Callable[[dict[str, Any]], bytes]:
    """A function that renders the fields of a line for reading."""
    render = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=16, sort_keys=False)

    def rendered(fields: dict[str, Any]) -> bytes:
        traceback = fields.pop("traceback", None)
        ordered = {key: fields.pop(key) for key in ("timestamp", "level", "event", *_SHOWN) if key in fields}
        ordered |= {key: value for key, value in fields.items() if key not in _HIDDEN}
        if isinstance(ordered.get("timestamp"), str):
            ordered["timestamp"] = ordered["timestamp"][11:23]
        for key in ("runtime", "queue_time"):
            if isinstance(ordered.get(key), float):
                ordered[key] = round(ordered[key], 3)
        text = str(render(None, "", ordered))
        if traceback:
            text += "\n" + "\n".join("    " + row for row in str(traceback).rstrip().splitlines())
        return text.encode("utf-8", "replace")

    return rendered


def fields_of(line: EventLine) -> dict[str, Any]:
    """The line as the JSON has it, in the same order."""
    return {name: value for name, value in msgspec.structs.asdict(line).items() if value is not msgspec.UNSET}
