"""The path of the page that tells more about an incident, below the address of the pages."""

from __future__ import annotations

from ha_monitor.incidents.address import address_of
from ha_monitor.store.incidents import Incident

PAGES = {
    "worker-lost": "workers",
    "events-lost": "workers",
    "queue-late": "queues",
    "no-consumer": "queues",
    "error-new": "errors",
    "error-regressed": "errors",
    "failing": "names",
    "retry-storm": "names",
    "task-stuck": "names",
    "task-orphaned": "names",
    "poison-task": "names",
    "schedule-missed": "schedules",
    "learned-missed": "schedules",
    "schedule-doubled": "schedules",
    "schedule-failed": "schedules",
    "beat-silent": "schedules",
    "monitor": "monitor",
    "store-went-back": "monitor",
    "queue-shared": "monitor",
}
"""The page by kind; the incident's key is the name on that page, except for `monitor` and `OF_ALL`."""
OF_ALL = frozenset(["beat-silent"])
"""Kinds whose key is not a name on such a page: their page is the list of all."""
_OF_TASKS = frozenset(["task-stuck", "task-orphaned", "poison-task"])
"""Kinds for which the page of a single task tells more."""
MAX_PATH = 150
"""Characters of a path: a message would cut a longer one, so the list of all is used instead."""


def place_of(incident: Incident) -> str:
    """The path, without a leading slash; that of the overview is empty."""
    page = PAGES.get(incident.kind, "")
    key = incident.key
    if page in ("", "monitor") or incident.kind in OF_ALL or not key:
        return page
    if incident.kind in _OF_TASKS and len(incident.tasks) == 1:
        page, key = "tasks", incident.tasks[0]
    place = address_of(page, key[:MAX_PATH])
    return place if len(key) <= MAX_PATH and len(place) <= MAX_PATH else page
