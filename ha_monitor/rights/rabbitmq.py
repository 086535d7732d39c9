"""The rights of the monitor's RabbitMQ user, and the remedy for each refusal.

docs/operations.md documents them; tests revoke each one and check what fails.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple


class Names(NamedTuple):
    """Names of exchanges, as configured."""

    exchange: str = "celeryev"
    """The event exchange."""
    control_exchange: str = "celery"


CELERYS = Names()
"""Celery's defaults."""


def rights_of(names: Names = CELERYS) -> dict[str, str]:
    """Patterns of queues and exchanges that the user must be allowed to configure, write and read."""
    queues = r"celeryev\..*"
    events, control = re.escape(names.exchange), re.escape(names.control_exchange)
    readable = r"celeryev(\..*)?" if names.exchange == "celeryev" else rf"{queues}|{events}"
    return {
        "configure": rf"^({queues}|(.*\.)?reply\.{control}\.pidbox|{control}\.pidbox)$",
        "write": rf"^({queues}|.*\.reply\.{control}\.pidbox|{control}\.pidbox)$",
        "read": rf"^({readable}|(.*\.)?reply\.{control}\.pidbox)$",
    }


# Newer versions name the missing right; for any version, it follows from the refused method.
_REFUSED = re.compile(
    r"(?:(?P<right>configure|write|read) )?access to (?P<kind>queue|exchange) '(?P<name>.*?)' "
    r"in vhost '(?P<vhost>.*)' refused for user '(?P<user>.*)'"
)
_VHOST_REFUSED = re.compile(r"access to vhost '(?P<vhost>.*)' refused for user '(?P<user>[^']*)'$")
_NO_VHOST = re.compile(r"vhost (?P<vhost>\S+) not found")
_EXCHANGE_DECLARE = (40, 10)
_METHODS: dict[tuple[int, int], dict[str, str]] = {
    _EXCHANGE_DECLARE: {"exchange": "configure"},
    (50, 10): {"queue": "configure"},
    (50, 20): {"queue": "write", "exchange": "read"},
    (50, 40): {"queue": "configure"},
    (60, 20): {"queue": "read"},
    (60, 40): {"exchange": "write"},
}
"""AMQP's class and method → kind of object → the missing right."""


def grant(user: str, vhost: str, names: Names = CELERYS, queue: str = "") -> str:
    """The command that grants all rights that are needed.

    :param queue: an event queue that needs all rights, whatever its name.
    """
    patterns = rights_of(names)
    if queue and not all(re.search(pattern, queue) for pattern in patterns.values()):
        patterns = {right: pattern.replace("^(", f"^({re.escape(queue)}|", 1) for right, pattern in patterns.items()}
    return shlex.join(["rabbitmqctl", "set_permissions", "-p", vhost, user, *patterns.values()])


def explain(text: str, method: tuple[int, int], names: Names = CELERYS) -> str | None:
    """The missing right and its remedy; None if the text is not such a refusal.

    :param text: RabbitMQ's own.
    :param method: AMQP's class and method that was refused.
    """
    text = " ".join(text.split())
    if refused := _REFUSED.search(text):
        kind, name, vhost, user = refused["kind"], refused["name"], refused["vhost"], refused["user"]
        right = refused["right"] or _METHODS.get(method, {}).get(kind, "use")
        missing = f"user {user} may not {right} the {kind} {name} in vhost {vhost}"
        if method == _EXCHANGE_DECLARE and not re.search(rights_of(names)["configure"], name):
            return f"{missing}, which does not exist yet; the first worker that starts declares it"
        is_events = kind == "queue" and not name.endswith(".pidbox")
        return f"{missing}; grant it: {grant(user, vhost, names, name if is_events else '')}"
    if refused := _VHOST_REFUSED.search(text):
        user, vhost = refused["user"], refused["vhost"]
        return f"user {user} may not use the vhost {vhost}; grant it: {grant(user, vhost, names)}"
    if missing_vhost := _NO_VHOST.search(text):
        vhost = missing_vhost["vhost"]
        return f"vhost {vhost} not found; correct the end of broker.url, or rabbitmqctl add_vhost {shlex.quote(vhost)}"
    if "Login was refused" in text:
        return (
            "the user name or password in broker.url is wrong, or the user, like guest, may log in only from the "
            "broker's own machine"
        )
    return None
