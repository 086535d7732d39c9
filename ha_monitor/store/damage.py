"""Keys that hold something foreign: reported, and set aside if possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ha_monitor.errors import LeaseLost, StoreRefused
from ha_monitor.store.keys import OWN, TYPES, Keys
from ha_monitor.text.visible import visible

KEPT = 7 * 86400
"""Seconds for which a value that was set aside is kept."""

Run = Callable[[str, Mapping[str, Any], Sequence[str]], Any]


def repair(run: Run, keys: Keys, token: int, counts_key: str) -> list[str]:
    """Set aside foreign values, if the fleet can continue without what their keys held.

    :param run: runs a script, given its name, its options, and keys.
    :param token: of this instance; 0 if it has none.
    :returns: a sentence for each.
    :raises StoreRefused: naming a key without which announcements would be lost.
    :raises LeaseLost: if it is this instance's own entry or outbox; after registering again, it has others.
    """
    wanted = {getattr(keys, name): kind for name, kind in TYPES.items()}
    wanted[counts_key] = OWN["counts"]
    own = {keys.instance(token): OWN["instance"], keys.outbox(token): OWN["outbox"]} if token else {}
    wanted |= own
    expected = [
        {"type": kind.type, "may_go": not kind.needed, "number": kind.number, "is_number": kind.is_number}
        for kind in wanted.values()
    ]
    raw = run("repair", {"aside": keys.aside, "kept_for": KEPT, "expected": expected}, list(wanted))
    reports = []
    for key, found, aside, value in (map(_text, row) for row in raw):
        is_what = (
            f"holds {value}, a value that this program does not write"
            if value
            else f"is a {found}, not a {wanted[key].type}"
        )
        said = f"{key} {is_what}, so something else writes to this Redis"
        if aside:
            reports.append(f"{said}; a new key is begun, and the old value is kept for a week as {aside}")
        elif key in own:
            raise LeaseLost(f"{said}; this instance registers again; look at the key, then delete it")
        else:
            raise StoreRefused(f"{said}; nothing is merged meanwhile: restore the key, or delete it if you cannot")
    return reports


def _text(raw: bytes) -> str:
    return visible(raw.decode("utf-8", "replace"))
