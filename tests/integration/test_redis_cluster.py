"""A node of a Redis Cluster is refused by that name, even while it has all slots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ha_monitor.broker.redis_source import RedisSource
from ha_monitor.check.findings import Finding, Severity
from ha_monitor.check.online import check_broker, check_store
from ha_monitor.clock import SystemClock
from ha_monitor.config.schema import Broker, Config, StoreSettings
from ha_monitor.errors import ConfigurationError
from ha_monitor.status.fleet import read_fleet
from ha_monitor.store.store import RedisStore
from tests.support.services import PrivateRedis
from tests.support.threads import plain_threads

REFUSED = "{key}.url: 127.0.0.1:{port}/0 is a node of a Redis Cluster, which is not supported as the {key}: name a "


@pytest.fixture
def node() -> Iterator[PrivateRedis]:
    """A cluster of one node, which has all slots."""
    with PrivateRedis(options=("--cluster-enabled", "yes")) as server, server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        yield server


def test_a_node_of_a_redis_cluster_is_refused_by_name(node: PrivateRedis) -> None:
    """Given such a node as store and as broker, an instance does not start, `check --online` and `status` say the same,
    and all of them say what it is and what to do."""
    url = node.url()
    config = Config(broker=Broker(url=url), store=StoreSettings(url=url))
    store = RedisStore(config.store, config.node_id, SystemClock())
    source = RedisSource(config, SystemClock(), plain_threads())
    for key, use in (
        ("store", store.connect),
        ("store", lambda: read_fleet(config, SystemClock())),
        ("broker", source.connect),
    ):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert str(caught.value).startswith(REFUSED.format(key=key, port=node.port))
        assert caught.value.key == f"{key}.url"

    assert not store.connected
    for key, findings in (("store", check_store(config)), ("broker", check_broker(config))):
        (finding,) = findings
        text = REFUSED.format(key=key, port=node.port)
        assert finding == Finding(Severity.FAILED, key, finding.text, lasting=True)
        assert finding.text.startswith(text)
