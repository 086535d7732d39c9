"""A handler module such as an administrator's, which the role deploys: it says what it was called for."""

import logging

from ha_monitor import Event, TaskRecord, on

_log = logging.getLogger(__name__)


@on("task-failed")
def say_it(event: Event, task: TaskRecord) -> None:
    _log.warning("%s of %s", event.id, task.name)
