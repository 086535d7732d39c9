"""What workers answer to the survey of the queues."""

from __future__ import annotations

import pytest

from ha_monitor.broker.survey import consumed_in, processes_in


def test_a_worker_that_answers_with_an_error_does_not_end_the_survey() -> None:
    """Given workers of which one cannot say what it consumes, as while it starts, and others that say what nobody can
    read, the queues of the rest are known, and the first counts as one that did not answer.
    """
    answers = {
        "celery@a": [{"name": "mail", "exchange": {"name": "mail"}}, {"name": "x" * 300}],
        "celery@b": {"error": "AttributeError(\"'NoneType' object has no attribute 'task_consumer'\")"},
        "celery@c": None,
        "celery@d": [],
        "celery@e": ["mail", {}, {"name": None}, {"name": ""}, {"name": 7}],
    }

    assert consumed_in(answers) == {
        "celery@a": {"mail", "x" * 255},
        "celery@d": frozenset(),
        "celery@e": frozenset(),
    }


@pytest.mark.parametrize(
    ("stats", "processes"),
    [
        ({"pool": {"processes": [11, 12], "max-concurrency": 4}}, 2),
        ({"pool": {"max-concurrency": 4}}, 4),
        ({"pool": {"max-concurrency": "4"}}, 0),
        ({"pool": "solo"}, 0),
        ({"error": "KeyError('pool')"}, 0),
        ("busy", 0),
        (None, 0),
    ],
)
def test_the_processes_of_a_worker_are_known_if_it_says_so(stats: object, processes: int) -> None:
    """Given what a worker answers of itself, its processes count, or its threads; else none do."""
    assert processes_in(stats) == processes
