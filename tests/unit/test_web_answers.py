"""Answers of the pages: shared, tagged, compressed, and described."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from http import HTTPStatus
from random import Random
from typing import Any

import jsonschema_rs
import pytest

from ha_monitor.config.schema import Config
from ha_monitor.web import etag
from ha_monitor.web.answer_cache import AnswerCache, EncodedAnswer, accepts_gzip, encode_answer, reply_of
from ha_monitor.web.description import description
from ha_monitor.web.endpoints import BY_NAME, ENDPOINTS, TAIL
from ha_monitor.web.page import NotFound
from ha_monitor.web.parameters import parse
from ha_monitor.web.view import View
from tests.unit.asked import NOW, Asked, Reader, task
from tests.unit.builders import TurnedClock


def answer(body: bytes) -> EncodedAnswer:
    return encode_answer(HTTPStatus.OK, "text/html", body, etag.of_page(body))


def test_who_asks_the_same_shares_one_answer() -> None:
    """Given many who ask the same at once and within two seconds, it is made once; later, and for another question,
    again. One who goes away takes nothing from the others."""
    clock, made = TurnedClock(), []
    shared = AnswerCache(clock)

    async def ask(key: str) -> bytes:
        async def make() -> EncodedAnswer:
            made.append(key)
            await asyncio.sleep(0)
            return answer(f"{key} {len(made)}".encode())

        return (await shared.get(key, make)).body

    async def run() -> list[bytes]:
        gone = asyncio.ensure_future(ask("a"))
        await asyncio.sleep(0)
        first = asyncio.gather(*(ask("a") for _ in range(100)))
        gone.cancel()
        found = await first
        clock.now += 1.9
        found += [await ask("a"), await ask("b")]
        clock.now += 0.2
        return [*found, await ask("a")]

    assert asyncio.run(run()) == [b"a 1"] * 101 + [b"b 2", b"a 3"]
    assert made == ["a", "b", "a"]


def test_a_name_of_which_nothing_was_run_is_known() -> None:
    """Given a task that runs once a day, a program that asks for its last hour gets an answer without runs; of a name
    that nobody has heard of, there is none."""
    reader: Any = Reader(Asked(task(name="shop.report")))
    view, endpoint = View(reader, Config(), TurnedClock(NOW)), BY_NAME["names", True]

    answer: Any = endpoint.ask(view, parse("", "shop.report", endpoint.parameters))

    assert (answer.items, answer.more, answer.complete) == ([], False, True)
    with pytest.raises(NotFound, match=r"^no name of a task is known as shop\.other$"):
        endpoint.ask(view, parse("", "shop.other", endpoint.parameters))


def test_nobody_waits_for_an_answer_that_takes_long() -> None:
    """Given an answer that takes half a second to make, it is shared for five; after that, whoever asks gets it once
    more at once while the next is made, and nobody gets one of more than ten seconds ago.
    """
    clock, made = TurnedClock(), []
    shared = AnswerCache(clock)

    async def ask() -> bytes:
        async def make() -> EncodedAnswer:
            made.append(clock.now)
            await asyncio.sleep(0)
            clock.now += 0.5
            return answer(b"%d" % len(made))._replace(cost=1 / 3)

        return (await shared.get("a", make)).body

    async def run() -> list[bytes]:
        found = [await ask()]
        for later in (4.9, 0.2, 0.0):
            clock.now += later
            found.append(await ask())
            await asyncio.sleep(0.01)
        clock.now += 10.1
        return [*found, await ask()]

    assert asyncio.run(run()) == [b"1", b"1", b"1", b"2", b"3"]


def test_all_answers_together_take_a_tenth_of_a_core() -> None:
    """Given many who ask for several answers that cost much, again and again, what is made costs a tenth of the time;
    what costs next to nothing is made every two seconds.
    """
    clock, made = TurnedClock(), []
    shared = AnswerCache(clock)

    async def ask(key: str, cost: float) -> None:
        async def make() -> EncodedAnswer:
            made.append(cost)
            return answer(b"x")._replace(cost=cost)

        await shared.get(key, make)

    async def run(costs: dict[str, float]) -> float:
        made.clear()
        for _ in range(200):
            for key, cost in costs.items():
                await ask(key, cost)
            clock.now += 0.5
        return sum(made) / 100

    assert asyncio.run(run({"a": 0.3, "b": 0.2, "c": 0.1})) <= 0.11
    assert 0.0004 <= asyncio.run(run({"d": 0.001})) <= 0.0005


def test_what_is_kept_is_bounded() -> None:
    """Given more answers than there is room for, the oldest go, and one that is too large is not kept at all."""
    clock = TurnedClock()
    shared = AnswerCache(clock, max_bytes=1000)
    made: list[str] = []

    async def ask(key: str, size: int) -> None:
        async def make() -> EncodedAnswer:
            made.append(key)
            return answer(Random(1).randbytes(size))

        await shared.get(key, make)

    async def run() -> None:
        for key, size in (("a", 400), ("b", 400), ("c", 400), ("b", 400), ("a", 400), ("large", 5000), ("large", 5000)):
            await ask(key, size)

    asyncio.run(run())

    assert made == ["a", "b", "c", "a", "large", "large"]


def test_a_failure_is_not_kept() -> None:
    """Given a question whose answer could not be made, all who wait are told, and the next one asks again."""
    shared, made = AnswerCache(TurnedClock()), []

    async def make() -> EncodedAnswer:
        made.append(1)
        await asyncio.sleep(0)
        raise ValueError("no")

    async def run() -> list[Any]:
        found = await asyncio.gather(*(shared.get("a", make) for _ in range(3)), return_exceptions=True)
        return [*found, *await asyncio.gather(shared.get("a", make), return_exceptions=True)]

    assert [str(error) for error in asyncio.run(run())] == ["no"] * 4
    assert len(made) == 2


def test_the_tag_of_a_page_changes_with_what_it_says() -> None:
    """Given a page that differs in nothing but the texts of times, and in what is marked as the clock's, its tag is
    the same; with another time, state or name it is not."""

    def page(ago: str, at: str = "10:00", name: str = "shop.pay", clock: str = "10:00:07") -> bytes:
        age = f'<time data-clock datetime="{clock}">{clock}</time>'
        return f'<p>{name} <time datetime="{at}">{ago}</time></p>{age}'.encode()

    same = etag.of_page(page("2s ago"))
    assert same == etag.of_page(page("3s ago")) == etag.of_page(page("2s ago", clock="10:00:08"))
    others = {etag.of_page(page("2s ago", at="10:01")), etag.of_page(page("2s ago", name="shop.book"))}
    assert same not in others


def test_the_tag_of_a_document_changes_with_what_it_says() -> None:
    """Given a document asked for a moment later, its tag is the same; with another number of tasks it is not."""

    def document(time: str, rate: float, waiting: int) -> dict[str, Any]:
        return {"time": time, "searched": f"until {time}", "items": [{"rate": rate, "waiting": waiting}]}

    first = etag.of_document(document("10:00", 12.31, 100))
    assert first == etag.of_document(document("10:01", 12.34, 100))
    assert first != etag.of_document(document("10:00", 12.31, 101))
    assert first != etag.of_document(document("10:00", 14.0, 100))


def test_who_has_the_same_already_is_sent_nothing() -> None:
    """Given a tag, its owner gets the status alone; others the answer, compressed if they take that."""
    body = b"<p>hello</p>" * 100
    one = answer(body)

    known = reply_of(one, f'"x", {one.tag}', "")
    assert (known.status, known.body, dict(known.headers)["ETag"]) == (HTTPStatus.NOT_MODIFIED, b"", one.tag)
    plain, packed = reply_of(one, '"x"', ""), reply_of(one, None, "br, gzip;q=0.5")
    assert (plain.status, plain.body) == (HTTPStatus.OK, body)
    assert gzip.decompress(packed.body) == body
    assert dict(packed.headers)["Content-Encoding"] == "gzip"
    assert {dict(reply.headers)["Cache-Control"] for reply in (known, plain, packed)} == {"private, no-cache"}
    failed = encode_answer(HTTPStatus.NOT_FOUND, "text/html", body)
    assert dict(reply_of(failed, "*", "").headers)["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=1", True),
        ("br", False),
        ("*", True),
        ("gzip;q=0", False),
        ("x-gzip", False),
    ],
)
def test_compression_is_for_who_takes_it(field: str, taken: bool) -> None:
    """Given the field Accept-Encoding, only who takes gzip gets it."""
    assert accepts_gzip(field) is taken


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            if name == "$ref":
                yield one
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_the_description_is_complete() -> None:
    """Given the description of the interface, each question is in it with all its parameters, all that it refers to is
    there, and its schemas are schemas."""
    found = description("/celery/api/v1")

    paths = {f"/{endpoint.name}{'/{name}' if endpoint.takes_name else ''}": endpoint for endpoint in (*ENDPOINTS, TAIL)}
    assert found["paths"].keys() == paths.keys()
    for path, endpoint in paths.items():
        names = [one["name"] for one in found["paths"][path]["get"]["parameters"]]
        assert names == [*(["name"] if endpoint.takes_name else []), *(one.name for one in endpoint.parameters)]
    schemas = found["components"]["schemas"]
    assert {one.removeprefix("#/components/schemas/") for one in references(found)} <= schemas.keys()
    for schema in schemas.values():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})
    operations = [path["get"]["operationId"] for path in found["paths"].values()]
    assert len(set(operations)) == len(operations)
    assert found["servers"] == [{"url": "/celery/api/v1"}]
