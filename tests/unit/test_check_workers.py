"""What `check --online` says of workers where the store cannot be asked."""

from __future__ import annotations

import pytest

from ha_monitor.check.findings import ok
from ha_monitor.check.workers import check_workers
from ha_monitor.config.schema import Broker, Config
from ha_monitor.errors import ConfigurationError, StoreUnavailable
from tests.unit.asked import Asked, Reader


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ConfigurationError("a node of a Redis Cluster")])
def test_workers_are_told_whatever_is_wrong_with_the_store(
    monkeypatch: pytest.MonkeyPatch, error: StoreUnavailable | ConfigurationError
) -> None:
    """Given a store that is away, or that never could be used, which has a finding of its own, the workers that answer
    are told all the same, and so is what is checked behind them.
    """

    class Refusing(Reader):
        def workers(self, late_after: float) -> None:  # type: ignore[override]
            raise error

    monkeypatch.setattr("ha_monitor.check.workers.StoreReader", lambda *_: Refusing(Asked()))
    monkeypatch.setattr("ha_monitor.check.workers.answering_workers", lambda *_: {"celery@a"})

    (found,) = check_workers(Config(broker=Broker(url="amqp://host")))

    assert found == ok("workers", "celery@a: no task event received yet; run tasks to find out whether it sends them")
