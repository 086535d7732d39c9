"""The endpoints for programs: their parameters and their answers. The pages take the same parameters.

The table is the single source of the interface for programs and of its description (`description.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Raw, Struct

from ha_monitor.answers import names, queues
from ha_monitor.answers.result import Result, document_of
from ha_monitor.answers.tasks import place_of
from ha_monitor.answers.worker_item import WorkerItem
from ha_monitor.errors import UsageError
from ha_monitor.query.fields import FIELDS
from ha_monitor.query.fields import Kind as FieldKind
from ha_monitor.query.groups import SORTS as ERROR_SORTS
from ha_monitor.query.items import GapItem, GroupItem, NameItem, TaskItem
from ha_monitor.query.problem_items import ProblemItem
from ha_monitor.query.queue_items import QueueItem
from ha_monitor.query.schedules import ScheduleItem
from ha_monitor.query.search import Order
from ha_monitor.status.fleet import Fleet
from ha_monitor.web.page import NotFound
from ha_monitor.web.parameters import Kind, Parameter, Parameters
from ha_monitor.web.view import View

MAX_ITEMS = 1000
"""Items of one answer."""
TASK_SORTS = tuple(name for name, field in FIELDS.items() if field.kind is not FieldKind.TIME)

FILTER = Parameter("filter", Kind.FILTER, "conditions such as FIELD=VALUE, as on the command line; all must hold")
SINCE = Parameter("since", Kind.TIME, "-1h, 02:00, 2026-11-25 02:00 or ISO 8601")
UNTIL = Parameter("until", Kind.TIME, "the same")
LIMIT = Parameter("limit", Kind.COUNT, "maximum number of items", "50", maximum=MAX_ITEMS)
REVERSE = Parameter("reverse", Kind.FLAG, "reverse the order")
AFTER = Parameter("after", Kind.TEXT, "continues after the last item of the previous list (its `after`)")
NAME = Parameter("name", Kind.TEXT, "only these; several by comma, * stands for any text")


def sort_by(choices: tuple[str, ...], default: str) -> Parameter:
    """The parameter that selects the order of a list."""
    return Parameter("sort", Kind.CHOICE, "sort order", default, choices)


class TailDocument(Struct):
    """What was announced behind a cursor."""

    time: str
    """When it was read, by the store's clock."""
    cursor: str
    """Where the next question continues."""
    more: bool
    """Whether there is more already."""
    gaps: list[GapItem]
    """What may be missing before these lines."""
    lines: list[Raw]
    """As in the log."""


class Endpoint(NamedTuple):
    """A kind of question for programs."""

    name: str
    meaning: str
    parameters: tuple[Parameter, ...]
    item: type[Struct]
    """The type of the answer's items; if the answer is not a list, the type of the answer."""
    ask: Callable[[View, Parameters], Struct]
    takes_name: bool = False
    """Whether a name or an id follows it in the path."""


def order_of(parameters: Parameters) -> Order:
    """The order in which tasks are listed, and where the list continues.

    :raises UsageError: if it cannot be continued there.
    """
    after = place_of(parameters.text("after"))
    if after is not None and parameters.text("sort"):
        raise UsageError("after: a list that is ordered by a field is not continued; narrow the filter instead")
    return Order(parameters.text("sort"), parameters.flag("reverse"), after)


def _tasks(view: View, asked: Parameters) -> Struct:
    return document_of(view.tasks(asked.words, asked.count(), order_of(asked)))


def _task(view: View, asked: Parameters) -> Struct:
    return document_of(_one(view.task(asked.name, with_tree=asked.flag("tree")), "task", asked.name))


def _errors(view: View, asked: Parameters) -> Struct:
    found = view.errors(asked.times, asked.count(), sort=asked.text("sort"), reverse=asked.flag("reverse"))
    return document_of(found)


def _error(view: View, asked: Parameters) -> Struct:
    return document_of(_one(view.error(asked.name), "group of errors", asked.name))


def _names(view: View, asked: Parameters) -> Struct:
    pattern, reverse = asked.text("name") or None, asked.flag("reverse")
    return document_of(view.names(pattern, asked.times, asked.count(), sort=asked.text("sort"), reverse=reverse))


def _name(view: View, asked: Parameters) -> Struct:
    found = view.name(asked.name, asked.times)
    if not found.items and asked.name in view.queries.names():
        return document_of(found)  # it has no runs in that period
    return document_of(_one(found, "name of a task", asked.name))


def _queues(view: View, asked: Parameters) -> Struct:
    found = view.queues(
        asked.text("name") or None,
        asked.count(),
        sort=asked.text("sort"),
        reverse=asked.flag("reverse"),
        within=max(1.0, asked.seconds("within")),
    )
    return document_of(found)


def _queue(view: View, asked: Parameters) -> Struct:
    return document_of(_one(view.queue(asked.name, max(1.0, asked.seconds("within"))), "queue", asked.name))


def _workers(view: View, asked: Parameters) -> Struct:
    pattern, reverse = asked.text("name") or None, asked.flag("reverse")
    return document_of(view.workers(pattern, asked.count(), reverse=reverse))


def _worker(view: View, asked: Parameters) -> Struct:
    return document_of(_one(view.worker(asked.name), "worker", asked.name))


def _schedules(view: View, asked: Parameters) -> Struct:
    pattern, reverse = asked.text("name") or None, asked.flag("reverse")
    return document_of(view.schedules(pattern, asked.count(), reverse=reverse))


def _schedule(view: View, asked: Parameters) -> Struct:
    return document_of(_one(view.schedule(asked.name), "schedule", asked.name))


def _problems(view: View, asked: Parameters) -> Struct:
    return document_of(view.problems(asked.count(), over=asked.flag("all"), reverse=asked.flag("reverse")).result)


def _monitor(view: View, _asked: Parameters) -> Struct:
    return view.fleet()


def _no_tail(_view: View, _asked: Parameters) -> Struct:
    raise NotImplementedError  # it waits, which no thread of the pool may do: see `tailing.py`


def _one(result: Result, what: str, name: str) -> Result:
    """:raises NotFound: if nothing has that name.
    :raises UsageError: if several names begin with it.
    """
    if not result.items:
        raise NotFound(f"no {what} is known as {name}")
    if len(result.items) > 1:
        raise UsageError(f"{name}: {len(result.items)} ids or names begin so; give more characters")
    return result


_WITHIN = Parameter(
    "within", Kind.DURATION, "time in which a queue should become empty with the processes that are needed", "10m"
)
ENDPOINTS = (
    Endpoint(
        "tasks",
        "Tasks that match, newest first",
        (FILTER, SINCE, UNTIL, sort_by(("", *TASK_SORTS), ""), REVERSE, LIMIT, AFTER),
        TaskItem,
        _tasks,
    ),
    Endpoint(
        "tasks",
        "The story of a task, by its id or the beginning of one",
        (Parameter("tree", Kind.FLAG, "also the workflow that it is a part of"),),
        TaskItem,
        _task,
        takes_name=True,
    ),
    Endpoint(
        "errors",
        "Error groups, latest error first",
        (SINCE, UNTIL, sort_by(tuple(ERROR_SORTS), "last"), REVERSE, LIMIT),
        GroupItem,
        _errors,
    ),
    Endpoint("errors", "A group of errors, with its traceback", (), GroupItem, _error, takes_name=True),
    Endpoint(
        "names",
        "What was run by name, beside the same time of the day before",
        (NAME, SINCE, UNTIL, sort_by(tuple(names.SORTS), "failed"), REVERSE, LIMIT),
        NameItem,
        _names,
    ),
    Endpoint("names", "What was run of a name", (SINCE, UNTIL), NameItem, _name, takes_name=True),
    Endpoint(
        "queues",
        "Queues: what waits, for how long, whether it empties",
        (NAME, sort_by(tuple(queues.SORTS), "oldest"), REVERSE, LIMIT, _WITHIN),
        QueueItem,
        _queues,
    ),
    Endpoint(
        "queues", "A queue, with the tasks that have waited longest", (_WITHIN,), QueueItem, _queue, takes_name=True
    ),
    Endpoint("workers", "Workers, lost ones first", (NAME, REVERSE, LIMIT), WorkerItem, _workers),
    Endpoint(
        "workers", "A worker; if it is lost, with what became of its tasks", (), WorkerItem, _worker, takes_name=True
    ),
    Endpoint(
        "schedules",
        "What celery beat should run, and whether it did; the worst first",
        (NAME, REVERSE, LIMIT),
        ScheduleItem,
        _schedules,
    ),
    Endpoint("schedules", "A schedule, with its latest due times", (), ScheduleItem, _schedule, takes_name=True),
    Endpoint(
        "problems",
        "What is wrong now, the worst first",
        (Parameter("all", Kind.FLAG, "also what was over within the last hour"), REVERSE, LIMIT),
        ProblemItem,
        _problems,
    ),
    Endpoint("monitor", "The instances of the monitor, its store and its workers", (), Fleet, _monitor),
)
TAIL = Endpoint(
    "tail",
    "What the fleet announces, starting at a cursor; without one, the current cursor",
    (
        FILTER,
        Parameter("cursor", Kind.TEXT, "the cursor of the previous answer, from any server"),
        Parameter("wait", Kind.DURATION, "how long to wait for something to come, at most 20s", "15s"),
    ),
    TailDocument,
    _no_tail,
)
BY_NAME = {(endpoint.name, endpoint.takes_name): endpoint for endpoint in ENDPOINTS}
