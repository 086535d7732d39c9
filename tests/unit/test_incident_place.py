"""Where the links of messages lead to."""

from __future__ import annotations

import pytest

from ha_monitor.config.schema import Config
from ha_monitor.config.web import Web
from ha_monitor.incidents.catalogue import CATALOGUE
from ha_monitor.incidents.place import MAX_PATH, PAGES, place_of
from ha_monitor.store.incidents import Incident, Phase, Severity
from ha_monitor.web.endpoints import BY_NAME


def incident(kind: str, key: str, *tasks: str) -> Incident:
    return Incident("i", kind, key, Severity.WARN, Phase.FIRING, 1.0, 1.0, "…", tasks=tasks)


@pytest.mark.parametrize(
    ("kind", "key", "tasks", "place"),
    [
        ("worker-lost", "celery@app/1 ?", (), "workers/celery%40app%2F1%20%3F"),
        ("queue-late", "mail", (), "queues/mail"),
        ("error-new", "0f3c52a9be", (), "errors/0f3c52a9be"),
        ("failing", "shop.pay", (), "names/shop.pay"),
        ("task-stuck", "shop.pay", ("8d3b",), "tasks/8d3b"),
        ("task-stuck", "shop.pay", ("8d3b", "9a51"), "names/shop.pay"),
        ("poison-task", "shop.pay", ("8d3b",), "tasks/8d3b"),
        ("poison-task", "shop.pay", ("8d3b", "9a51"), "names/shop.pay"),
        ("schedule-missed", "nightly report", ("8d3b",), "schedules/nightly%20report"),
        ("schedule-doubled", "a/b", (), "schedules/a%2Fb"),
        ("queue-late", "..", (), "queues/?called=.."),
        ("failing", "a//b", (), "names/?called=a%2F%2Fb"),
        ("schedule-failed", "nightly", ("8d3b",), "schedules/nightly"),
        ("beat-silent", "gen4711@web3", (), "schedules"),
        ("monitor", "channel-pager", (), "monitor"),
        ("store-went-back", "", (), "monitor"),
        ("queue-shared", "celeryev.shop", (), "monitor"),
        ("queue-late", "x" * MAX_PATH, (), "queues"),
        ("queue-late", "\n\x1b[31m", (), "queues/%0A%1B%5B31m"),
        ("queue-late", "\ud800", (), "queues/%3F"),
        ("of a later version", "x", (), ""),
    ],
)
def test_a_link_leads_to_what_it_is_about(kind: str, key: str, tasks: tuple[str, ...], place: str) -> None:
    """Given an incident, the link is that of the page of its worker, queue, errors, name, task or schedule,
    whatever is in the name; of one that has none, or has too long a name, the nearest page."""
    assert place_of(incident(kind, key, *tasks)) == place


def test_each_kind_has_a_page_that_there_is() -> None:
    """Given all kinds of incidents, each has a page, and it is one of those that programs can ask for, too."""
    assert PAGES.keys() == {kind.name for kind in CATALOGUE}
    assert {(page, False) for page in PAGES.values()} <= BY_NAME.keys()


def test_the_address_of_the_pages_is_said_once() -> None:
    """Given where people find the pages, links lead there, unless another address is chosen for them."""
    assert Config().pages_url == ""
    assert Config(web=Web(url="https://a/celery")).pages_url == "https://a/celery"
