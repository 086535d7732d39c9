"""Where more is to be seen of an incident: the path of its page, below the address of the pages."""

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
"""By kind; of what its key is the name, but for `monitor` and `OF_ALL`."""
OF_ALL = frozenset(["beat-silent"])
"""Kinds whose key is no name of such a page: theirs is the page of all."""
_OF_TASKS = frozenset(["task-stuck", "task-orphaned", "poison-task"])
"""Kinds of which a single task has a page that tells more."""
LONGEST = 150
"""Characters of a path: a longer one would be cut in a message. Then it is the page of all."""


def place_of(incident: Incident) -> str:
    """The path, without the first slash; that of the overview is empty."""
    page = PAGES.get(incident.kind, "")
    key = incident.key
    if page in ("", "monitor") or incident.kind in OF_ALL or not key:
        return page
    if incident.kind in _OF_TASKS and len(incident.tasks) == 1:
        page, key = "tasks", incident.tasks[0]
    place = address_of(page, key[:LONGEST])
    return place if len(key) <= LONGEST and len(place) <= LONGEST else page
