"""Recognizes a node of a Redis Cluster, which can be neither the store nor the broker.

A node answers like any Redis as long as it happens to have the requested slots, and refuses when they move.
"""

from __future__ import annotations

from typing import Any

from ha_monitor.errors import ConfigurationError

HELLO = "HELLO"
"""The command whose reply tells whether a Redis is a node of a cluster. No user can be denied this command."""
_REFUSALS = {"AskError", "ClusterCrossSlotError", "ClusterDownError", "TryAgainError"}
"""Names of redis-py's exceptions, so that this module need not import redis-py. MOVED is an AskError, too."""


def is_in_cluster(reply: Any) -> bool:
    """Whether a reply to HELLO, a list or map of names and values, is from a node of a cluster."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    return isinstance(reply, dict) and reply.get(b"mode", reply.get("mode")) in {b"cluster", "cluster"}


def is_refusal(error: BaseException) -> bool:
    """Whether only a node of a cluster refuses a command with this error."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _REFUSALS) and "MasterDownError" not in names  # raised by a replica without its primary


def refused(key: str, address: str) -> ConfigurationError:
    """The error to show to a person.

    :param key: the setting that names the node, such as `store.url`.
    """
    role = key.partition(".")[0]
    return ConfigurationError(
        f"{key}: {address} is a node of a Redis Cluster, which is not supported as the {role}: name a Redis without "
        "cluster mode, or its sentinels",
        key,
    )
