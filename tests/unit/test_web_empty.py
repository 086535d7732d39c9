"""The pages of a fleet that has just begun, or of none."""

from __future__ import annotations

import re

from tests.unit.asked import instance
from tests.unit.test_web_schedules import shown, text, view


def test_the_page_says_why_nothing_is_known_to_be_wrong() -> None:
    """Given a leader that still listens, overview and list say what they wait for where they would say that nothing is
    wrong, and not only below."""
    of = view(instances=[instance(judged=0.0)])

    for noun in ("", "problems"):
        html = shown(noun, of)
        (said,) = re.findall(r'<p class="problem attend">.*?</p>', html, re.DOTALL)
        assert "Not judged at the moment" in html
        assert "not known: problems: nothing is judged until the leader has listened for" in said
    (fine,) = re.findall(r'<p class="fine">.*?</p>', shown("problems", view()), re.DOTALL)
    assert text(f"<main>{fine}").startswith("That is what 1 of 1 instance sees, merged")


def test_a_page_that_nobody_ever_wrote_for_says_no_time() -> None:
    """Given a store in which no instance ever wrote, since when nobody looks is not known, and the page does not give
    the time at which it was asked for."""
    never, gone = view(instances=[]), view(instances=[instance(lease_left=-1.0, silent=60.0)])

    assert text(shown("problems", never)).startswith(
        "1 problem now and what was over within the last hour Monitor no instance of the monitor runs: nobody can "
        "see problems. since when is not known"
    )
    assert text(shown("problems", gone)).startswith("1 problem · since 05:53:0")


def test_the_page_of_tasks_tells_a_fleet_without_tasks_from_a_filter_that_finds_none() -> None:
    """Given a record without any task, the page says that there is none yet; given a filter or a time, that none is
    such."""
    of = view()

    assert "No task is known yet." in shown("tasks", of)
    for query in ("filter=state%3DFAILURE", "since=-1h"):
        assert "No such task" in shown("tasks", of, query=query)
