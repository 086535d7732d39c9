"""Redis Cluster: how a node of one is recognized. It is used neither as the store nor as the broker.

A node answers like any Redis as long as it happens to have the slots that are asked for, and refuses when they move.
"""

from __future__ import annotations

from typing import Any

from ha_monitor.errors import ConfigurationError

HELLO = "HELLO"
"""The command whose reply says it; no user can be forbidden to use it."""
_REFUSALS = {"AskError", "ClusterCrossSlotError", "ClusterDownError", "TryAgainError"}
"""redis-py's classes, by name since it stands above this module. MOVED is an AskError, too."""


def is_in_cluster(reply: Any) -> bool:
    """Whether the reply to HELLO, names and values, is that of a node of a cluster."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    return isinstance(reply, dict) and reply.get(b"mode", reply.get("mode")) in {b"cluster", "cluster"}


def is_refusal(error: BaseException) -> bool:
    """Whether only a node of a cluster refuses a command like this."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _REFUSALS) and "MasterDownError" not in names  # that is a replica without its primary


def refused(key: str, address: str) -> ConfigurationError:
    """The error that a person is told.

    :param key: the setting that names it, such as `store.url`.
    """
    role = key.partition(".")[0]
    return ConfigurationError(
        f"{key}: {address} is a node of a Redis Cluster, which cannot be the {role}: name a Redis without a cluster, "
        "or sentinels of one",
        key,
    )
