"""The names of the keys in Redis."""

from __future__ import annotations

from typing import NamedTuple

FORMAT = 2
"""Version of the layout of the keys and values; instances of two formats refuse to run together."""


class Kind(NamedTuple):
    """What a key is."""

    type: str
    """As Redis calls it."""
    needed: bool = False
    """Whether announcements would be lost with it. What is in place of any other may be set aside."""


TYPES = {
    "leases": Kind("zset", needed=True),
    "waiting": Kind("zset", needed=True),
    "tokens": Kind("string"),
    "format": Kind("string"),
    "unfinished": Kind("string"),
    "interrupted": Kind("set"),
    "producers": Kind("hash"),
    "workers": Kind("zset"),
    "retries": Kind("zset"),
    "takeovers": Kind("list"),
    "rejected": Kind("list"),
    "leader": Kind("string"),
    "liveness": Kind("hash"),
    "processes": Kind("zset"),
    "returned": Kind("string"),
    "queues": Kind("zset"),
    "dead_letters": Kind("list"),
    "open": Kind("zset"),
    "stuck": Kind("hash"),
    "orphaned": Kind("hash"),
    "usual": Kind("hash"),
    "set_aside": Kind("list"),
    "sweep": Kind("string"),
    "newcomers": Kind("zset"),
    "young": Kind("zset"),
    "named": Kind("hash"),
    "crowd": Kind("string"),
    "turned_away": Kind("hash"),
}
"""The keys of which there is one, by their attribute of `Keys`."""


class Keys:
    """The keys of one `node_id`.

    All carry one hash tag, so they live in one slot of a Redis Cluster and a script may touch all of them.
    What each holds is documented at the head of the script that writes it.
    """

    def __init__(self, prefix: str, node_id: str) -> None:
        self.prefix = f"{{{prefix}:{node_id}}}:"
        self.leases = self.prefix + "leases"
        self.tokens = self.prefix + "tokens"
        self.format = self.prefix + "format"
        self.waiting = self.prefix + "waiting"
        self.producers = self.prefix + "producers"
        self.workers = self.prefix + "workers"
        self.retries = self.prefix + "retries"
        self.takeovers = self.prefix + "takeovers"
        self.rejected = self.prefix + "rejected"
        self.leader = self.prefix + "leader"
        self.liveness = self.prefix + "liveness"
        self.processes = self.prefix + "processes"
        self.returned = self.prefix + "returned"
        self.queues = self.prefix + "queues"
        self.dead_letters = self.prefix + "dead-letters"
        self.open = self.prefix + "open"
        self.stuck = self.prefix + "stuck"
        self.orphaned = self.prefix + "orphaned"
        self.usual = self.prefix + "usual"
        self.set_aside = self.prefix + "set-aside"
        self.sweep = self.prefix + "sweep"
        self.newcomers = self.prefix + "newcomers"
        self.young = self.prefix + "young"
        self.named = self.prefix + "named"
        self.crowd = self.prefix + "crowd"
        self.turned_away = self.prefix + "turned-away"
        self.unfinished = self.prefix + "unfinished"
        self.interrupted = self.prefix + "interrupted"
        self.aside = self.prefix + "foreign:"
        """Prefix of what was in place of a key and was not the program's."""

    def task(self, task_id: str) -> str:
        return f"{self.prefix}t:{task_id}"

    def worker(self, nodename: str) -> str:
        return f"{self.prefix}w:{nodename}"

    def instance(self, token: int) -> str:
        return f"{self.prefix}instance:{token}"

    def outbox(self, token: int) -> str:
        return f"{self.prefix}outbox:{token}"

    def attempt(self, name: str) -> str:
        return f"{self.prefix}a:{name}"

    def counts(self, name: str) -> str:
        """:param name: the instance's, unlike its token the same after a restart."""
        return f"{self.prefix}counts:{name}"
