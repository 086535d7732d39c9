"""Lines for people at a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from ha_monitor.text.visible import visible

_SHOWN = ("instance", "task_name", "task_id", "worker", "queue", "runtime", "queue_time", "retries")
_HIDDEN = frozenset({"node_id", "host", "pid", "event_id", "event_time", "root_id", "parent_id"})


def console_renderer(colors: bool, encoding: str = "utf-8") -> Callable[[dict[str, Any]], bytes]:
    """A function that renders the fields of a line for reading.

    :param encoding: of the terminal; other characters are escaped.
    """
    render = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=16, sort_keys=False)

    def rendered(fields: dict[str, Any]) -> bytes:
        # Texts of several lines follow below, indented, so that none of their lines looks like a line of the log.
        below = [str(text) for key in ("exception", "traceback") if (text := fields.pop(key, None))]
        ordered = {key: fields.pop(key) for key in ("timestamp", "level", "event", *_SHOWN) if key in fields}
        ordered |= {key: value for key, value in fields.items() if key not in _HIDDEN}
        if isinstance(ordered.get("timestamp"), str):
            ordered["timestamp"] = ordered["timestamp"][11:23]
        for key in ("runtime", "queue_time"):
            if isinstance(ordered.get(key), float):
                ordered[key] = round(ordered[key], 3)
        rows = [str(render(None, "", {key: _shown(value) for key, value in ordered.items()}))]
        rows += [f"    {visible(row)}" for text in below for row in text.rstrip().split("\n")]
        return "\n".join(rows).encode(encoding, "backslashreplace")

    return rendered


class _Visible(str):
    """An escaped text. structlog quotes some texts, and must not escape them again."""

    __slots__ = ()

    def __repr__(self) -> str:
        mark = '"' if "'" in self and '"' not in self else "'"
        return mark + self.replace(mark, "\\" + mark) + mark


def _shown(value: Any) -> Any:
    """A value for structlog to print: a number, or an escaped text."""
    if value is None or isinstance(value, int | float):
        return value
    return _Visible(visible(value if isinstance(value, str) else str(value)))
