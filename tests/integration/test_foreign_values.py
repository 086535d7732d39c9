"""A wrong value of the right type in place of any key of the program: it counts as absent and is named, the fleet goes
on, and nothing is said or tried again and again because of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import msgspec
import pytest

from ha_monitor.errors import ConfigurationError
from ha_monitor.outputs.line import Identity, build_line
from ha_monitor.store.keys import TYPES
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.record import record_of
from tests.integration.storing import NODE, Inside, Instance
from tests.integration.test_foreign_keys import BY_PREFIX, Going, expected, one_of_many
from tests.unit.builders import event

FACTS = ("st", "tk", "tt", "e", "rt", "qw", "sc")
MOMENTS = (-1, 0, 1.5, 99, 2**62, 2**63, -(2**62), 1e300, float("inf"), float("nan"), float("-inf"))
IDENTITY = Identity(NODE, "1", "host", 1)
pack = msgspec.msgpack.encode
Values = dict[str, Callable[[Any, str], Any]]
TEXTS = [
    b"",
    b"abc",
    b"nan",
    b"inf",
    b"1e308",
    b"9000000000000000000",
    b"9" * 400,
    b"-5",
    b"1.5",
    b"\xff\x00",
    b"{",
    b"3",
]
PACKED = [
    [1],
    ["a", "b", 1, 0],
    [["a"], {}, "x", None],
    {"n": 1},
    {"worker-lost": [float("nan"), ["a", 1]], "a": "b"},
    {"highs": "x", "at": "y"},
    {"b": 5, "s": ["x"], "f": "y"},
]
RECORDS = {
    "a count that is a text": ({"sc": "x"}, b""),
    "a time without its count": ({"sc": 1}, b""),
    "no number": ({"rc": 1, "rl": float("nan"), "w": "w"}, b""),
    "a number without end": ({"st": float("inf")}, b""),
    "a fraction": ({"st": 1.5}, b""),
    "a number that is too large": ({"st": 2**63}, b""),
    "an end of no kind": ({"tk": 99, "tt": 1, "tc": 1}, b""),
    "a name that is a number": ({"n": 1}, b""),
    "attempts that are none": ({"at": 1, "rs": 1}, b""),
    "attempts of nothing": ({"at": {0: "x"}, "rs": [[1]]}, b""),
    "steps without attempts": ({"rs": []}, b""),
    "ids cut off": ({}, b"abc"),
    "announcements that are none": ({}, b"", [1]),
    "announcements of nothing": ({}, b"", [[], [1, 2]]),
    "an announcement of a retry that is none": ({"n": "x"}, b"", [[b"\xc0", 4, 1, 1, "w"]]),
    "counts that are none": ({}, b"", [], [1]),
    "a count of nothing": ({"n": "x"}, b"", [], [[10, 1, "w", "x", 1]]),
    "a wait of no run": ({"n": "x"}, b"", [], [[-1, 1, "w", False, 1]]),
}


def record(*parts: Any) -> bytes:
    """A record as the scripts write it; bytes are texts there."""
    return b"".join(b"\xa0" if part == b"" else b"\xa3" + part if type(part) is bytes else pack(part) for part in parts)


def a_string(value: bytes) -> Callable[[Any, str], Any]:
    return lambda client, key: client.set(key, value)


def all_fields(value: bytes) -> Callable[[Any, str], Any]:
    """The value in place of whatever the fields hold, and of one that there is not."""
    return lambda client, key: client.hset(key, mapping=dict.fromkeys([*client.hkeys(key), b"foreign"], value))


def all_scores(score: float) -> Callable[[Any, str], Any]:
    members = [b"foreign", b"", b"\xff\x00", b"a\x1fb\x1fc", b"12"]
    return lambda client, key: client.zadd(key, dict.fromkeys([*client.zrange(key, 0, -1), *members], score))


def an_item(value: bytes) -> Callable[[Any, str], Any]:
    return lambda client, key: client.lpush(key, value)


def a_piece(value: bytes) -> Callable[[Any, str], Any]:
    return lambda client, key: client.xadd(key, dict.fromkeys(["n", "by", "e", "foreign"], value))


HOSTILE: dict[str, Values] = {
    "string": {repr(value[:20]): a_string(value) for value in [*TEXTS, *map(pack, PACKED), b"\xc1"]}
    | {what: a_string(record(*parts)) for what, parts in RECORDS.items()},
    "hash": {repr(value[:20]): all_fields(value) for value in TEXTS},
    "zset": {repr(score): all_scores(score) for score in (float("inf"), float("-inf"), 1e300, -1.0)},
    "list": {repr(value[:20]): an_item(value) for value in [*TEXTS, b'{"at": 1e300}', b"[" * 3000]},
    "stream": {repr(value[:20]): a_piece(value) for value in TEXTS},
    "set": {"members": lambda client, key: client.sadd(key, "", "foreign", b"\xff\x00")},
}
"""What to do with a key of each type, by what it is."""


def in_contact(going: Going) -> str:
    return going.one.stay_in_contact().trouble


def read_all(url: str, going: Going) -> None:
    """Whatever reads the store or what comes out of it, does so."""
    reader = StoreReader(going.one.settings, NODE)
    reader.connect()
    reader.instances()
    reader.workers(late_after=10.0)
    reader.counts()
    for kind in ("dead_letters", "rejected", "takeovers"):
        reader.latest(kind, 10)
    reader.close()
    for item in going.one.emitted:
        build_line(item, IDENTITY, "")
        if item.entry.facts is not None and item.entry.event.task_id is not None:
            record_of(item.entry.event.task_id, item.entry.facts)


def check(url: str, inside: Inside, key_of: Callable[[Going], str], kind: str, *, records: bool) -> None:
    """With each hostile value in place of a key, after a round without one."""
    wanted = expected(url, inside)
    for what, put in HOSTILE[kind].items():
        if what in RECORDS and not records:
            continue
        inside.redis.flushdb()
        going = Going(url)
        going.round(0)
        key = key_of(going)
        put(inside.redis, key)
        read_all(url, going)
        going.round(1)
        going.one.store.close()
        going.round(2)
        assert all(key in trouble for trouble in going.troubles), (what, going.troubles)
        before = len(going.troubles)
        going.round(3)
        # What looks like an instance that vanished is taken over.
        going.do(partial(in_contact, going))
        inside.let_wait_end()
        going.do(going._tick)
        read_all(url, going)

        assert going.troubles[before:] == [], what
        found = going.announced()
        unreadable = {
            item.entry.event.id for item in going.one.emitted if item.entry.event.type == "outbox-entry-unreadable"
        }
        assert wanted - set(found) == set(), what
        assert {item for item, times in found.items() if times > 1} - unreadable == set(), what


@pytest.mark.parametrize("name", TYPES)
def test_a_wrong_value_of_a_key(store_url: str, inside: Inside, name: str) -> None:
    """Given any wrong value of the right type in a key, all that an instance does goes on, everything is announced
    once, and what is said of it names the key, and is not said any more a round later.
    """
    check(store_url, inside, lambda going: getattr(going.one.store.keys, name), TYPES[name].type, records=False)


@pytest.mark.parametrize("prefix", BY_PREFIX)
def test_a_wrong_value_of_one_of_many_keys(store_url: str, inside: Inside, prefix: str) -> None:
    """Given any wrong value of the right type in a record, an account, an entry or an outbox, the same."""
    check(store_url, inside, one_of_many(inside, prefix), BY_PREFIX[prefix][0], records=prefix == "t:")


@pytest.mark.parametrize("value", [*TEXTS, pack([1]), pack(["a", "b", 1, 0])], ids=repr)
@pytest.mark.parametrize("name", ["tokens", "format", "requeued"])
def test_what_must_be_a_number_is_set_aside_and_named_once(
    store_url: str, inside: Inside, name: str, value: bytes
) -> None:
    """Given no number where one must be, an instance enters itself all the same, one line names the key and the value,
    and what was there is kept. A number is left to the scripts.
    """
    key = getattr(inside.keys, name)
    inside.redis.set(key, value)
    going = Going(store_url)
    if value == b"3":
        with pytest.raises(ConfigurationError, match=r"format 3, .*:format") if name == "format" else nullcontext():
            going.round(0)
        return
    for number in range(3):
        going.round(number)
        going.one.store.close()

    said = [fields["reason"] for line, fields in going.log.told if line == "store-damaged"]
    assert len(said) == 1
    assert f"{key} holds " in said[0]
    assert said[0].isprintable()
    assert inside.redis.get(inside.keys.aside + name) == value
    assert going.troubles == []
    assert len(str(going.one.store.token)) == 13


def test_a_broken_entry_of_its_own_makes_an_instance_enter_itself_anew(store_url: str, inside: Inside) -> None:
    """Given an outbox of which nothing says any more what is announced, its instance leaves it to be taken over, and
    what was not announced is announced.
    """
    going = Going(store_url)
    going.round(0)
    token = going.one.store.token
    lost = going.one.apply(event("custom", uuid=None, n=1), announce=False).items
    inside.redis.hset(inside.keys.instance(token), "behind", "inf")
    going.round(1)

    assert going.one.store.token > token
    assert f'{inside.keys.instance(token)} holds "inf"' in going.said("lease-lost")
    inside.let_lease_end(token)
    going.do(partial(in_contact, going))
    assert {item.entry.event.id for item in lost} <= {item.entry.event.id for item in going.one.emitted}


@pytest.mark.parametrize("value", [*TEXTS, pack([])], ids=repr)
def test_what_is_broken_of_its_takeovers_keeps_no_instance_from_its_outbox(
    store_url: str, inside: Inside, value: bytes
) -> None:
    """Given nothing usable in what an instance's entry says of takeovers, it has its outbox all the same when its
    connection breaks, and tells of no takeover."""
    going = Going(store_url)
    going.round(0)
    lost = going.one.apply(event("custom", uuid=None, n=1), announce=False).items
    inside.redis.hset(inside.keys.instance(going.one.store.token), mapping={"recovered": value, "took": value})
    going.one.store.close()
    going.one.store.connect()
    recovered = going.one.store.recover()

    assert [item.entry for item in recovered.items] == [item.entry for item in lost]
    assert list(recovered.taken) == []


@pytest.mark.parametrize("value", TEXTS, ids=repr)
def test_a_broken_entry_of_a_dead_instance_is_taken_over(store_url: str, inside: Inside, value: bytes) -> None:
    """Given nothing usable in the entry of an instance that died, another one announces what it left."""
    dead, going = Instance(store_url).start(), Going(store_url, "2")
    dead.apply(event("custom", uuid=None, n=1), announce=False)
    all_fields(value)(inside.redis, inside.keys.instance(dead.store.token))
    inside.redis.hset(inside.keys.instance(dead.store.token), "taken", value)
    inside.let_lease_end(dead.store.token)
    going.do(partial(in_contact, going))

    assert going.one.types == ["custom"]
    assert inside.redis.zcard(inside.keys.leases) == 1


def test_entries_of_no_use_become_lines_that_say_so(store_url: str, inside: Inside) -> None:
    """Given entries in an outbox that nobody could write, each is announced as what it is, whatever its numbers."""
    dead, going = Instance(store_url).start(), Going(store_url, "2")
    own = {"type": "task-failed", "id": "0" * 24, "task_id": "t"}
    entries = [
        [0, {**own, "time": moment}, {fact: count}, False] for moment in MOMENTS for fact in FACTS for count in MOMENTS
    ]
    inside.redis.rpush(inside.keys.outbox(dead.store.token), *map(pack, entries), b"x", pack([1, 2]))
    inside.let_lease_end(dead.store.token)
    for _ in range(5):
        going.do(partial(in_contact, going))
    read_all(store_url, going)

    assert len(going.one.emitted) == len(entries) + 2
