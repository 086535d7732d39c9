"""What `make test` runs."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.side_by_side import (
    FIRST,
    LOWER,
    LOWEST,
    SEEDS,
    SESSIONS,
    Job,
    Runner,
    Session,
    Worlds,
    all_worlds,
    files_of,
)
from tests.support.machine import are_others_busy, patient
from tests.support.process import wait_for_value, wait_until

ROOT = Path(__file__).parents[2]


def test_every_test_is_in_one_session() -> None:
    """Given all files with tests, each is run by exactly one of the sessions."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
    named = [path.relative_to(ROOT) for session in SESSIONS for path in files_of(session)]

    runs = {file: sum(file.is_relative_to(path) for path in named) for file in files}

    assert len(files) > 50
    assert [str(file) for file, count in runs.items() if count != 1] == []


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_every_world_is_in_one_process(parts: int) -> None:
    """Given a number of processes, each of the worlds is run by exactly one of them."""
    worlds = all_worlds(parts)

    assert len(worlds) == parts
    assert list(itertools.chain(*(one.seeds for one in worlds))) == list(range(SEEDS))


def test_a_job_has_the_priority_that_it_is_given(capfd: pytest.CaptureFixture[str]) -> None:
    """Given two jobs, one of which is lower than this process, they run with these priorities."""
    for name, lower in (("same", 0), ("lower", LOWER)):
        job = Job(name, ["nice"])
        job.lower = lower
        job.run()

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert capfd.readouterr().out.splitlines() == [f"same     | {own}", f"lower    | {own + LOWER}"]


def test_worlds_begin_beside_the_sessions_and_with_the_lowest_priority(capfd: pytest.CaptureFixture[str]) -> None:
    """Given a session that takes the only place, worlds are run meanwhile, with what it leaves of the cores."""

    class Quick(Worlds):  # what has the lowest priority waits long on a busy machine
        PROGRAM = ("sh", "-c", 'nice; echo "$@"', "worlds")

    class Waiting(Job):
        def run(self) -> None:
            wait_until(lambda: worlds.status is not None, what="the end of the worlds")
            self.status = 0

    worlds, waiting = Quick(range(3, 5)), Waiting("waiting", [])
    Runner([waiting], at_once=1, beside=[worlds]).run()

    assert (waiting.status, worlds.status) == (0, 0)
    said = capfd.readouterr().out.splitlines()
    assert [said[0], said[-1]] == [f"worlds   | {LOWEST}", "worlds   | --first=3 --seeds=2"]


OWN_PRIORITY = 'priority() { cut -d" " -f19 /proc/$$/stat; }'
UNTIL_HURRIED = "while [ $(priority) != 0 ]; do sleep 0.1; done"


def test_worlds_have_their_share_of_the_cores_once_the_sessions_are_through(tmp_path: Path) -> None:
    """Given worlds that are left at the end, they are no lower in priority than other programs: else what keeps the
    machine busy besides would leave them nothing.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may raise a priority")

    begun = tmp_path / "begun"
    wait = f"{OWN_PRIORITY}; priority >{begun}; {UNTIL_HURRIED}"

    class Left(Worlds):
        PROGRAM = ("sh", "-c", wait, "worlds")

    class Waiting(Job):
        def run(self) -> None:
            wait_until(lambda: begun.exists() and begun.read_text(), what="the beginning of the worlds")
            self.status = 0

    worlds = Left(range(1))
    Runner([Waiting("waiting", [])], at_once=1, beside=[worlds]).run()

    assert (begun.read_text(), worlds.status) == (f"{LOWEST}\n", 0)


@pytest.mark.parametrize(("told", "status"), [("hurry", 0), ("stop", -signal.SIGTERM)])
def test_what_worlds_are_told_before_they_begin_holds(told: str, status: int) -> None:
    """Given a busy machine, on which the sessions are through before a thread has begun the worlds, these get their
    share all the same, and end if they are told to."""
    if os.geteuid() != 0:
        pytest.skip("only root may raise a priority")

    class Left(Worlds):
        PROGRAM = ("sh", "-c", f"{OWN_PRIORITY}; {UNTIL_HURRIED}", "worlds")

    worlds = Left(range(1))
    getattr(worlds, told)()
    worlds.run()

    assert worlds.status == status


def test_worlds_that_are_stopped_end() -> None:
    """Given worlds that are run, of which Ctrl-C tells nobody, they end when they are told to."""

    class Endless(Worlds):
        PROGRAM = ("sh", "-c", "exec sleep 1000")

    worlds = Endless(range(1))
    thread = threading.Thread(target=worlds.run)
    thread.start()

    def stopped() -> bool:
        worlds.stop()
        return worlds.status is not None

    wait_until(stopped, what="the end of the worlds")
    thread.join()

    assert worlds.status == -signal.SIGTERM


def test_what_failed_is_kept_for_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a session on CI in which one test fails, its line says which and why, and the status is pytest's."""
    monkeypatch.setenv("CI", "true")
    (tmp_path / "test_it.py").write_text(
        "def test_good():\n    pass\n\ndef test_bad():\n    assert 1 == 2, 'no such luck'\n"
    )

    session = Session("sample", [tmp_path], ["-rA"])
    session.run()

    assert session.status == 1
    assert session.cpu > 0
    (failure,) = session.failures
    assert failure.startswith("FAILED ")
    assert "test_it.py::test_bad - AssertionError: no such luck" in failure
    printed = capfd.readouterr().out.splitlines()
    assert any(line.startswith("sample   | PASSED ") and line.endswith("::test_good") for line in printed)


def test_no_more_run_at_once_than_the_machine_carries() -> None:
    """Given five sessions and two cores, two run at once, and the first begin first."""
    running: list[str] = []
    most: list[int] = []
    begun: list[str] = []
    both = threading.Barrier(2)

    class Counted(Session):
        def run(self) -> None:
            running.append(self.name)
            begun.append(self.name)
            if len(begun) <= 2:
                both.wait(patient(10))
            most.append(len(running))
            running.remove(self.name)

    Runner([Counted(name, [], []) for name in "abcde"], at_once=2).run()

    assert sorted(begun[:2]) == ["a", "b"]
    assert begun[2:] == ["c", "d", "e"]
    assert max(most) == 2


def test_fewer_run_at_once_while_the_machine_is_busy() -> None:
    """Given places for all and a busy machine, two run at once, and beside them the one that takes longest, which waits
    for nothing; the next one begins when fewer than two are left."""
    longest = FIRST[1]
    begun: dict[str, int] = {}
    ended: list[str] = []
    may_end = {name: threading.Event() for name in ("a", "b", "c", longest)}

    class Held(Job):
        def run(self) -> None:
            begun[self.name] = len(ended)
            assert may_end[self.name].wait(patient(10))
            ended.append(self.name)

    runner = Runner([Held(name, []) for name in may_end], at_once=4, at_least=2, is_busy=lambda: True)
    thread = threading.Thread(target=runner.run)
    thread.start()
    wait_for_value(lambda: len(begun), 3, what="the beginning of three")
    may_end["a"].set()
    wait_for_value(lambda: ended, ["a"], what="the end of one")
    may_end["b"].set()
    wait_for_value(lambda: len(begun), 4, what="the beginning of the last one")
    for name in ("c", longest):
        may_end[name].set()
    thread.join(patient(10))

    assert begun == {"a": 0, "b": 0, longest: 0, "c": 2}


@pytest.mark.parametrize(("running", "busy"), [(1, False), (1 + (os.cpu_count() or 1), True)])
def test_others_who_want_all_cores_are_noticed(tmp_path: Path, running: int, busy: bool) -> None:
    """Given what the kernel says of the processes that want a core, of which this one is one, others are busy once they
    have work for all cores."""
    loads = tmp_path / "loadavg"
    loads.write_text(f"0.52 0.58 0.59 {running}/345 12345\n")

    assert are_others_busy(loads) is busy


@pytest.mark.parametrize("status", [0, 2])
def test_what_needs_preparation_is_run_after_it_and_the_rest_meanwhile(status: int) -> None:
    """Given a job that another one needs, a third one is run meanwhile, and the other one after it, if it succeeds; if
    not, that is said, and it has not passed."""
    begun: list[str] = []
    other_ended = threading.Event()

    class Prepare(Job):
        def run(self) -> None:
            begun.append(self.name)
            assert other_ended.wait(patient(10))
            self.status = status

    class Other(Job):
        def run(self) -> None:
            begun.append(self.name)
            self.status = 0
            other_ended.set()

    prepare = Prepare("prepare", [])
    needing = Other("needing", [], after=prepare)
    Runner([prepare, needing, Other("other", [])], at_once=2).run()

    assert begun == ["prepare", "other", *(["needing"] if status == 0 else [])]
    assert needing.status == (0 if status == 0 else None)
    assert needing.failures == ([] if status == 0 else ["not run, since prepare failed"])
