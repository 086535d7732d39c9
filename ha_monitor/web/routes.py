"""The pages by their paths. Their parameters are those of the noun in `nouns.py`, if there is one."""

from __future__ import annotations

from collections.abc import Mapping

from ha_monitor.web.page import PageFunction
from ha_monitor.web.pages import names

PAGES: Mapping[str, PageFunction] = {
    "names": names.page,
}
"""`/<noun>`; the overview is the empty one."""
NAMED: Mapping[str, PageFunction] = {}
"""`/<noun>/<name>`: the name is in the parameters."""
