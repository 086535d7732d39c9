"""The users with which tests run the monitor: with the rights that docs/operations.md names, and no other ones."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ha_monitor.rights.redis import REDIS_6_COMMANDS

GUIDE = Path(__file__).resolve().parents[2] / "docs/operations.md"
PASSWORD = "opensesame"
STORE_USER = "monitor"


class Permissions(NamedTuple):
    """Patterns, as `rabbitmqctl set_permissions` takes them."""

    configure: str
    write: str
    read: str


def documented(beginning: str) -> list[str]:
    """The words of the one line of the guide that begins like this."""
    (line,) = [line for line in _guide() if line.startswith(beginning)]
    return shlex.split(line)


@cache
def _guide() -> list[str]:
    return GUIDE.read_text(encoding="utf-8").splitlines()


def documented_permissions() -> Permissions:
    return Permissions(*documented("rabbitmqctl set_permissions")[-3:])


def store_rules() -> list[str]:
    """What the guide gives to the user of the store, without state and password."""
    return documented("ACL SETUSER monitor ")[5:]


def reader_rules() -> list[str]:
    """What the guide gives to a user who only reads the store, without state and password."""
    return documented("ACL SETUSER reader ")[5:]


def broker_rules(db: int = 0) -> list[str]:
    """What the guide gives to the user of a Redis broker, without state and password."""
    return [
        rule.replace("&/0.", f"&/{db}.") if rule.startswith("&") else rule
        for rule in documented("ACL SETUSER monitor-broker ")[5:]
    ]


def results_rules() -> list[str]:
    """What the guide gives to the user of a Redis result backend, without state and password."""
    return documented("ACL SETUSER monitor-results ")[5:]


def broker_user(db: int) -> str:
    """The user of one database: its number is a part of the rights."""
    return f"monitor-broker-{db}"


def for_redis_6(rules: list[str]) -> list[str]:
    """What the guide gives to a user of Redis 6.2: two commands more; to a broker's the queues by name, and no channel
    but those that are named.
    """
    first = next((rule for rule in rules if rule.startswith("&")), "")
    replaced = {rule: ["~celery*"] for rule in rules if rule.startswith("(")} | {first: ["resetchannels", first]}
    return [*(word for rule in rules for word in replaced.get(rule, [rule])), *REDIS_6_COMMANDS.split()]


def acl_file(databases: int, *, selectors: bool = True) -> str:
    """Users for redis-server's `--aclfile`: one for the store, one a database for the broker, and the tests' own.

    :param selectors: whether the server knows rules in brackets, as Redis 7 does.
    """
    users = {STORE_USER: store_rules()} | {broker_user(db): broker_rules(db) for db in range(databases)}
    if not selectors:
        users = {name: for_redis_6(rules) for name, rules in users.items()}
    lines = ["user default on nopass ~* &* +@all"]
    lines += [f"user {name} on >{PASSWORD} {' '.join(rules)}" for name, rules in users.items()]
    return "\n".join(lines) + "\n"


def as_monitor(url: str, *, broker: bool = False) -> str:
    """The URL of a private server for the monitor's user.

    :param broker: it is that of a broker.
    """
    parts = urlsplit(url)
    user = STORE_USER
    if broker and parts.scheme == "redis":
        user = broker_user(int(parts.path.strip("/") or 0))
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{PASSWORD}@{host}").geturl()
