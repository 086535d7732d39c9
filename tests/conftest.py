"""The services that tests stand on. A missing one skips the test; on CI, where none may be missing, it fails."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import hypothesis
import pytest
import redis.utils

from tests.support.celery52 import celery52_python
from tests.support.certificates import Certificate, make_certificate
from tests.support.logs import ends_of_logs
from tests.support.machine import machine_load
from tests.support.private import PrivateService
from tests.support.services import PrivateRabbitMQ, PrivateRedis, ServiceMissing


def pytest_configure() -> None:
    """In the background of a shell ^C is ignored, and programs that the tests start would ignore it, too. And an
    example of a property may take long on a busy machine, and is the same each time.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile(
        "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("tests")
    # At each connection redis-py looks its version up in the metadata of its package, which takes longer than the rest.
    redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)


def pytest_collection_finish() -> None:
    """What is loaded by now stays: looking through it for garbage, again and again, took a twentieth of the time."""
    gc.collect()
    gc.freeze()


pytest.register_assert_rewrite("tests.support.store_contract")
Server = TypeVar("Server", bound=PrivateService)
_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure how busy the machine was, to tell a fault from a slow machine, and what was logged last."""
    report = yield
    if report.failed:
        report.sections.append(("machine", f"{report.when} took {report.duration:.1f} s; {machine_load()}"))
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if isinstance(folder, Path) and (ends := ends_of_logs(folder)):
            report.sections.append(("the ends of the logs", ends))
    return report


def missing(error: ServiceMissing) -> NoReturn:
    """Skip the test, or fail it on CI."""
    if os.environ.get("CI"):
        pytest.fail(f"on CI nothing may be missing: {error}", pytrace=False)
    pytest.skip(str(error))


def served(make: Callable[[], Server]) -> Iterator[Server]:
    """A server for as long as a fixture lives."""
    try:
        server = make()
    except ServiceMissing as error:
        missing(error)
    with server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[PrivateRedis]:
    """A Redis server for all tests that leave it running."""
    yield from served(PrivateRedis)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node for all tests that leave it running."""
    yield from served(PrivateRabbitMQ)


def _empty_db(server: PrivateRedis) -> str:
    # Another one each time: a client that a test left behind may still write to the one before.
    db = next(_numbers) % (server.DATABASES - 1) + 1
    with server.client(db) as client:
        client.flushdb()
    return server.url(db)


@pytest.fixture
def store_url(redis_server: PrivateRedis) -> str:
    """URL of an empty Redis database for the store."""
    return _empty_db(redis_server)


@pytest.fixture
def redis_broker_url(redis_server: PrivateRedis) -> str:
    """URL of another empty Redis database, for use as a broker."""
    return _empty_db(redis_server)


@pytest.fixture
def result_url(redis_server: PrivateRedis) -> str:
    """URL of another empty Redis database, for the results of tasks."""
    return _empty_db(redis_server)


@pytest.fixture
def broker_url(rabbitmq: PrivateRabbitMQ) -> Iterator[str]:
    """URL of a new RabbitMQ virtual host, deleted after the test."""
    name = f"test{next(_numbers)}"
    url = rabbitmq.add_vhost(name)
    yield url
    rabbitmq.delete_vhost(name)


@pytest.fixture
def own_redis() -> Iterator[PrivateRedis]:
    """A Redis server of this test alone, to stop and kill; it keeps its data over that."""
    yield from served(lambda: PrivateRedis(appendonly=True))


@pytest.fixture
def own_rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node of this test alone, to stop and kill."""
    yield from served(PrivateRabbitMQ)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[Certificate]:
    """Two certificates for 127.0.0.1, by authorities that do not know each other."""
    folder = tmp_path_factory.mktemp("certificates")
    try:
        return [make_certificate(folder, authority) for authority in ("ours", "others")]
    except ServiceMissing as error:
        missing(error)


@pytest.fixture(scope="session")
def celery52() -> Path:
    """Interpreter of a virtual environment with Celery 5.2."""
    try:
        return celery52_python()
    except ServiceMissing as error:
        missing(error)
