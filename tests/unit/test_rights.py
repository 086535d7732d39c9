"""A refusal becomes one line: the right that is missing, and the command that grants it."""

from __future__ import annotations

import shlex

import pytest

from ha_monitor.broker.redis_layout import layout_of
from ha_monitor.config.schema import Broker
from ha_monitor.rights import rabbitmq, redis
from tests.support.rights import broker_rules, documented_permissions, reader_rules, results_rules, store_rules

GRANT = rabbitmq.grant("m", "/")
STORE = redis.needs_of_store("m", "ha-monitor")
LAYOUT = layout_of("redis://h/0", Broker())
BROKER = redis.needs_of_broker("m", LAYOUT.keys, LAYOUT.channels)


def test_the_guide_names_the_rights_that_the_program_names() -> None:
    """Given the operations guide, its patterns and rules are those of the cures, to the letter."""
    assert documented_permissions()._asdict() == rabbitmq.rights_of()
    assert store_rules() == list(STORE.rules) == shlex.split(STORE.grant)[3:]
    assert reader_rules() == list(redis.needs_of_reader("m", "ha-monitor").rules)
    assert results_rules() == list(redis.needs_of_results("m", "").rules)
    assert broker_rules() == list(BROKER.rules) == shlex.split(BROKER.grant)[3:]


@pytest.mark.parametrize(
    ("text", "method", "line"),
    [
        (
            "ACCESS_REFUSED - access to queue 'celeryev.x' in vhost '/' refused for user 'm'",
            (50, 10),
            f"user m may not configure the queue celeryev.x in vhost /; grant it: {GRANT}",
        ),
        (
            "ACCESS_REFUSED - access to queue 'celeryev.x' in vhost '/' refused for user 'm'",
            (50, 20),
            f"user m may not write the queue celeryev.x in vhost /; grant it: {GRANT}",
        ),
        (
            "ACCESS_REFUSED - access to exchange 'celeryev' in vhost '/' refused for user 'm'",
            (50, 20),
            f"user m may not read the exchange celeryev in vhost /; grant it: {GRANT}",
        ),
        (
            # As RabbitMQ 3.12 and later say it.
            "ACCESS_REFUSED - write access to exchange 'celery.pidbox' in vhost '/' refused for user 'm'",
            (60, 40),
            f"user m may not write the exchange celery.pidbox in vhost /; grant it: {GRANT}",
        ),
        (
            "ACCESS_REFUSED - access to exchange 'celeryev' in vhost '/' refused for user 'm'",
            (40, 10),
            "user m may not configure the exchange celeryev in vhost /, which does not exist yet; the first worker "
            "that starts declares it",
        ),
        (
            "NOT_ALLOWED - access to vhost '/' refused for user 'm'",
            (10, 40),
            f"user m may not use the vhost /; grant it: {GRANT}",
        ),
        (
            "NOT_ALLOWED - vhost shop not found",
            (10, 40),
            "vhost shop not found; correct the end of broker.url, or rabbitmqctl add_vhost shop",
        ),
        (
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details …",
            (0, 0),
            "the user name or password in broker.url is wrong, or the user, like guest, may log in only from the "
            "broker's own machine",
        ),
        ("NOT_ALLOWED - access to vhost '/' refused for user 'm': connection limit (1) is reached", (10, 40), None),
        ("ACCESS_REFUSED - queue 'celeryev.x' in vhost '/' in exclusive use", (60, 20), None),
    ],
)
def test_what_rabbitmq_refuses(text: str, method: tuple[int, int], line: str | None) -> None:
    """Given RabbitMQ's text and the method that was refused, the line names right, subject and cure."""
    assert rabbitmq.explain(text, method) == line


def test_a_queue_of_another_name_is_in_the_cure() -> None:
    """Given a queue that the usual patterns do not match, the cure grants all that is needed on it, too: the command
    replaces what was granted before.
    """
    text = "ACCESS_REFUSED - access to queue 'mon.x' in vhost 'a b' refused for user 'm'"

    line = rabbitmq.explain(text, (60, 20))

    patterns = {right: pattern.replace("^(", r"^(mon\.x|") for right, pattern in rabbitmq.rights_of().items()}
    assert line is not None
    assert line.partition("grant it: ")[2] == "rabbitmqctl set_permissions -p 'a b' m " + " ".join(
        f"'{pattern}'" for pattern in patterns.values()
    )


def test_exchanges_of_other_names_are_in_the_cure() -> None:
    """Given `broker.exchange` and `broker.control_exchange`, each cure has both, wherever the defaults have theirs."""
    names = rabbitmq.Names("shopev", "shop")
    text = "ACCESS_REFUSED - access to exchange 'shop.pidbox' in vhost '/' refused for user 'm'"

    line = rabbitmq.explain(text, (60, 40), names)

    assert rabbitmq.rights_of(names) == {
        "configure": r"^(celeryev\..*|(.*\.)?reply\.shop\.pidbox|shop\.pidbox)$",
        "write": r"^(celeryev\..*|.*\.reply\.shop\.pidbox|shop\.pidbox)$",
        "read": r"^(celeryev\..*|shopev|(.*\.)?reply\.shop\.pidbox)$",
    }
    assert line == (
        f"user m may not write the exchange shop.pidbox in vhost /; grant it: {rabbitmq.grant('m', '/', names)}"
    )


@pytest.mark.parametrize(
    ("url", "changes", "keys", "channels"),
    [
        (
            "redis://h/3",
            {"global_keyprefix": "shop:", "fanout_prefix": "/shop/{db}."},
            ("shop:_kombu.binding*", "*.reply.celery.pidbox*"),
            ("shop:/shop/3.celeryev/*", "shop:/shop/3.celery.pidbox"),
        ),
        (
            "redis+socket:///run/redis.sock?virtual_host=2",
            {"fanout_patterns": False},
            ("_kombu.binding*", "*.reply.celery.pidbox*"),
            ("/2.celeryev", "/2.celery.pidbox"),
        ),
        (
            "sentinel://a:1/4;sentinel://b:1/4",
            {"fanout_prefix": False},
            ("_kombu.binding*", "*.reply.celery.pidbox*"),
            ("celeryev/*", "celery.pidbox"),
        ),
    ],
)
def test_transport_options_are_in_the_cure(
    url: str, changes: dict[str, object], keys: tuple[str, ...], channels: tuple[str, ...]
) -> None:
    """Given transport options that name keys and channels otherwise, so does the cure."""
    layout = layout_of(url, Broker(transport_options=changes))

    assert (layout.keys, layout.channels) == (keys, channels)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("this user has no permissions to run the 'script|load' command", "run SCRIPT LOAD"),
        ("User m has no permissions to run the 'time' command", "run TIME"),
        ("this user has no permissions to run the 'get' command or its subcommand", "run GET"),
        ("ACL failure in script: User m has no permissions to run the 'zadd' command script: 53, on @u:1.", "run ZADD"),
        ("The user executing the script can't run this command or subcommand script: 5, on @user_script:1.", "run GET"),
        ("this user has no permissions to access one of the keys used as arguments", "use the keys {ha-monitor:*"),
        ("No permissions to access a key", "use the keys {ha-monitor:*"),
        (
            "The user executing the script can't access at least one of the keys mentioned in the command arguments",
            "use the keys {ha-monitor:*",
        ),
    ],
)
def test_what_a_store_refuses(text: str, missing: str) -> None:
    """Given the texts of several versions of Redis, the line names what is missing, and the cure."""
    assert redis.explain(text, STORE, "get") == f"user m may not {missing}; grant it: {STORE.grant}"


@pytest.mark.parametrize(("command", "missing"), [("client", "CLIENT"), ("select", "SELECT"), ("wait", "WAIT")])
def test_what_a_redis_older_than_7_refuses_besides(command: str, missing: str) -> None:
    """Given a Redis that counts commands of the connection elsewhere, the cure grants them, too; a newer one needs no
    more than is documented."""
    text = f"this user has no permissions to run the '{command}' command"

    assert redis.explain(f"{text} or its subcommand", STORE) == (
        f"user m may not run {missing}; grant it: {STORE.grant} {redis.REDIS_6_COMMANDS}"
    )
    assert redis.explain(text, STORE) == f"user m may not run {missing}; grant it: {STORE.grant}"


@pytest.mark.parametrize(
    "text",
    [
        "this user has no permissions to access one of the channels used as arguments",
        "No permissions to access a channel",
    ],
)
def test_what_a_broker_refuses(text: str) -> None:
    """Given a channel that is refused, the line names the channels as they must be granted: to the letter."""
    assert redis.explain(text, BROKER) == (
        f"user m may not use the channels /0.celeryev/* /0.celery.pidbox; grant it: {BROKER.grant}"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Authentication required.", "Redis requires a password in store.url"),
        (
            "invalid username-password pair or user is disabled.",
            "the user name or password in store.url is wrong, or the user is disabled",
        ),
        ("Connection refused", None),
        ("READONLY You can't write against a read only replica.", None),
    ],
)
def test_what_is_no_matter_of_rights(text: str, line: str | None) -> None:
    """Given a password that is wrong or missing, the line says that; any other error is none of this."""
    assert redis.explain(text, STORE) == line
