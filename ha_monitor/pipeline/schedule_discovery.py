"""Asks the workers and RedBeat which schedules exist, in a thread, since they answer slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from ha_monitor.errors import BrokerBlocked, HaMonitorError, class_and_reason
from ha_monitor.events.text import printable
from ha_monitor.schedules import confs
from ha_monitor.schedules.model import Definition, Source
from ha_monitor.threads import OneCall, Threads, ThreadUnavailable

AskConfs = Callable[[Sequence[str]], Mapping[str, object]]
"""Called with nodenames; returns their answers to Celery's `conf`."""
AskRedBeat = Callable[[str], Sequence[Definition]]
"""Called with the application's time zone; returns the entries of RedBeat."""


class Answer(NamedTuple):
    """The answer of one source."""

    definitions: Sequence[Definition] = ()
    problem: str = ""
    """Why the source did not answer, as a text; empty if it did."""
    silent: Sequence[str] = ()
    """The workers that were asked and did not answer."""
    is_held_up: bool = False
    """Whether the broker accepts no messages because of an alarm, which is reported elsewhere."""


class ScheduleDiscovery:
    """Makes one inquiry at a time. `ask` and `take` never block."""

    def __init__(self, confs: AskConfs, redbeat: AskRedBeat | None, threads: Threads) -> None:
        """:param redbeat: None without RedBeat. Both functions may raise `HaMonitorError`."""
        self._confs = confs
        self._redbeat = redbeat
        self._call: OneCall[dict[Source, Answer]] = OneCall(threads.calls("schedules"))

    @property
    def busy(self) -> bool:
        """Whether an inquiry is in progress, or its answers were not taken yet."""
        return self._call.busy

    @property
    def asks_redbeat(self) -> bool:
        """Whether there is RedBeat to ask, even without workers."""
        return self._redbeat is not None

    def ask(self, workers: Sequence[str]) -> None:
        """Begin to ask. Allowed only while it is not busy. :param workers: the workers to ask; may be empty."""
        self._call.begin(lambda: self._ask(workers))

    def take(self) -> dict[Source, Answer] | None:
        """The answers, once they are available."""
        try:
            return self._call.take()
        except ThreadUnavailable as error:
            return {Source.CONF: Answer(problem=str(error))}

    def _ask(self, workers: Sequence[str]) -> dict[Source, Answer]:
        found: dict[Source, Answer] = {}
        if workers:
            found[Source.CONF] = _answer(lambda: self._of_workers(workers))
        if (redbeat := self._redbeat) is not None:
            zone = next((one.zone for one in found.get(Source.CONF, Answer()).definitions if one.zone), "")
            found[Source.REDBEAT] = _answer(lambda: Answer([storable(one) for one in redbeat(zone)]))
        return found

    def _of_workers(self, workers: Sequence[str]) -> Answer:
        answers = self._confs(workers)
        silent = [name for name in workers if name not in answers]
        return Answer([storable(one) for one in definitions_of(answers)], silent=silent)


def storable(definition: Definition) -> Definition:
    """The definition with question marks in place of what UTF-8 cannot encode: JSON may contain half characters."""
    texts = {name: value for name, value in structs.asdict(definition).items() if type(value) is str}
    clean = {name: printable(text) for name, text in texts.items()}
    return definition if clean == texts else structs.replace(definition, **clean)


def _answer(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except BrokerBlocked:
        return Answer(is_held_up=True)
    except HaMonitorError as error:
        return Answer(problem=str(error))
    except Exception as error:  # unexpected, from a library: the loop waits for an answer
        return Answer(problem=class_and_reason(error))


def definitions_of(answers: Mapping[str, object]) -> list[Definition]:
    """The schedules of all applications. Workers that share an entry belong to the same application.

    :param answers: answers to `conf`, by nodename.
    """
    read = {worker: frozenset(confs.definitions_in(answer)) for worker, answer in answers.items()}
    by_worker = {worker: names for worker, names in read.items() if names}
    apps: list[tuple[set[str], set[str]]] = []
    for worker, names in sorted(by_worker.items()):
        same = [one for one in apps if one[1] & names]
        apps = [one for one in apps if one not in same]
        apps.append(({worker}.union(*(one[0] for one in same)), set(names).union(*(one[1] for one in same))))
    found: list[Definition] = []
    for workers, _ in apps:
        app = _app_of(workers) if len(apps) > 1 else ""
        found += confs.definitions_of({worker: answers[worker] for worker in sorted(workers)}, app)
    return found


def _app_of(workers: Iterable[str]) -> str:
    """The name that distinguishes an application from others: the first of its workers."""
    return min(workers)
