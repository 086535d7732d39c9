"""Asks workers, and RedBeat, which schedules there are, in a thread: they answer slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from ha_monitor.errors import BrokerBlocked, HaMonitorError, reason_of
from ha_monitor.events.text import printable
from ha_monitor.schedules import confs
from ha_monitor.schedules.model import Definition, Source
from ha_monitor.threads import OneCall, Threads, ThreadUnavailable

AskConfs = Callable[[Sequence[str]], Mapping[str, object]]
"""Given nodenames: what they answer to `conf`."""
AskRedBeat = Callable[[str], Sequence[Definition]]
"""Given the time zone of the application: the entries of RedBeat."""


class Answer(NamedTuple):
    """What one source said."""

    definitions: Sequence[Definition] = ()
    problem: str = ""
    """Why it said nothing, in words; empty if it did."""
    silent: Sequence[str] = ()
    """Who of the workers that were asked did not answer."""
    is_held_up: bool = False
    """The broker takes nothing now: whoever knows of the alarm tells of it."""


class Scout:
    """Asks once at a time. `ask` and `take` never block."""

    def __init__(self, confs: AskConfs, redbeat: AskRedBeat | None, threads: Threads) -> None:
        """:param redbeat: None if there is none. Both may raise `HaMonitorError`."""
        self._confs = confs
        self._redbeat = redbeat
        self._call: OneCall[dict[Source, Answer]] = OneCall(threads.calls("schedules"))

    @property
    def busy(self) -> bool:
        """Somebody is being asked, or the answers were not taken yet."""
        return self._call.busy

    @property
    def asks_redbeat(self) -> bool:
        """Whether there is something to ask even without workers."""
        return self._redbeat is not None

    def ask(self, workers: Sequence[str]) -> None:
        """Begin to ask. Only while it is not busy. :param workers: to be asked; none to leave them alone."""
        self._call.begin(lambda: self._ask(workers))

    def take(self) -> dict[Source, Answer] | None:
        """The answers, once they are there."""
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
    """The same with question marks in place of what UTF-8 cannot hold: JSON may have halves of characters."""
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
        return Answer(problem=f"{type(error).__name__}: {reason_of(error)}")


def definitions_of(answers: Mapping[str, object]) -> list[Definition]:
    """The schedules of all applications. Workers that have an entry in common are of the same one.

    :param answers: to `conf`, by nodename.
    """
    read = {worker: frozenset(confs.definitions_in(answer)) for worker, answer in answers.items()}
    told = {worker: names for worker, names in read.items() if names}
    apps: list[tuple[set[str], set[str]]] = []
    for worker, names in sorted(told.items()):
        same = [one for one in apps if one[1] & names]
        apps = [one for one in apps if one not in same]
        apps.append(({worker}.union(*(one[0] for one in same)), set(names).union(*(one[1] for one in same))))
    found: list[Definition] = []
    for workers, _ in apps:
        app = _app_of(workers) if len(apps) > 1 else ""
        found += confs.definitions_of({worker: answers[worker] for worker in sorted(workers)}, app)
    return found


def _app_of(workers: Iterable[str]) -> str:
    """What tells an application from the others: the first of its workers."""
    return min(workers)
