"""Clusters of RabbitMQ, and cuts in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from tests.support.process import wait_until
from tests.support.services import PrivateRabbitMQ


@contextmanager
def cluster_of_three(*, partition_handling: str = "ignore") -> Iterator[list[PrivateRabbitMQ]]:
    """Three nodes in one cluster.

    :param partition_handling: RabbitMQ's `cluster_partition_handling`.
    :raises ServiceMissing: if RabbitMQ is not installed.
    """
    config = f"cluster_partition_handling = {partition_handling}\n"
    with ExitStack() as stack:
        first = stack.enter_context(PrivateRabbitMQ(config=config))
        others = [stack.enter_context(PrivateRabbitMQ(config=config, joins=first)) for _ in range(2)]
        yield [first, *others]


def part(node: PrivateRabbitMQ, others: Iterable[PrivateRabbitMQ]) -> None:
    """Cut the links between a node and others, which all go on: it knows their cookies no more."""
    for other in others:
        node.evaluate(f"erlang:set_cookie('{other.nodename}', parted), erlang:disconnect_node('{other.nodename}').")


def heal(node: PrivateRabbitMQ, others: Iterable[PrivateRabbitMQ]) -> None:
    """Let them meet again, and wait until they have."""
    for other in others:
        node.evaluate(f"erlang:set_cookie('{other.nodename}', erlang:get_cookie()).")
    names = [other.nodename for other in others]
    wait_until(lambda: all(_connected(node, name) for name in names), 60, "that the nodes have met", 0.5)


def _connected(node: PrivateRabbitMQ, name: str) -> bool:
    return node.evaluate(f"net_kernel:connect_node('{name}').") == "true"
