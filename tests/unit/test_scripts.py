"""Python and Lua name the same things, by names that each mean one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from ha_monitor.store import scripts
from ha_monitor.store.keys import FAMILIES, NAMES, TYPES, Keys
from ha_monitor.store.scripts import Part, Script, ScriptError, assemble, part_from, parts_of, read_part
from tests.support.lua_files import FILES, LUA, SCRIPTS, top_locals
from tests.support.sources import nodes_of

PACKAGE = LUA.parents[1]


def code_of(part: Part) -> str:
    return re.sub(r"--[^\n]*", "", part.text)


def used(part: Part, table: str) -> set[str]:
    return set(re.findall(rf"\b{table}\.(\w+)", code_of(part)))


def parts() -> Iterator[Part]:
    return map(read_part, FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_declares_what_it_uses_and_uses_what_it_declares(name: str) -> None:
    """Given any file, the keys, families and options that its code names are those of its head."""
    part = read_part(name)
    implied = {"prefix"} if part.families else set()

    assert used(part, "keys") == {key.removesuffix("...") for key in part.keys}
    assert used(part, "families") == set(part.families)
    assert used(part, "options") | implied == set(part.options)
    assert not re.search(r"\b(KEYS|ARGV)\b", code_of(part)), "positions are for scripts.py alone"


def test_every_name_has_one_meaning() -> None:
    """Given all files, each option is explained in one of them; each key and family of `keys.py` that is the scripts'
    is named by one.
    """
    found = list(parts())
    meanings = Counter(option for part in found for option in part.meanings)
    of_keys = {key for part in found for key in part.keys}

    assert set(meanings) == {option for part in found for option in part.options} - {"prefix"} | {"prefix"}
    assert set(meanings.values()) == {1}
    assert all(text for part in found for text in part.meanings.values())
    assert NAMES.keys() <= of_keys
    assert FAMILIES.keys() - {family for part in found for family in part.families} == {"counts"}


def test_every_file_is_part_of_a_script() -> None:
    """Given all files, none is left that no script is made of."""
    used_parts = {part.name for name in SCRIPTS for part in parts_of(name, read_part)}

    assert used_parts == {*FILES, *scripts.GENERATED}


def names_in(literal: ast.Dict) -> set[str]:
    return {str(key.value) for key in literal.keys if isinstance(key, ast.Constant)}


def passed() -> dict[str, set[str]]:
    """The options that Python passes to each script: the names in the literals of the calls."""
    found: dict[str, set[str]] = {}
    for path in (PACKAGE / "store").glob("*.py"):
        for function in nodes_of(path):
            if not isinstance(function, ast.FunctionDef):
                continue
            named = {
                target.id: node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for call in ast.walk(function):
                if not isinstance(call, ast.Call) or not call.args or not isinstance(call.args[0], ast.Constant):
                    continue
                script = call.args[0].value
                on = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                if script not in SCRIPTS or on not in ("_call", "_send", "run"):
                    continue
                given = call.args[1] if len(call.args) > 1 else ast.Dict([], [])
                given = named[given.id] if isinstance(given, ast.Name) else given
                assert isinstance(given, ast.Dict), f"{path.name}: the options of {script} are no literal"
                found[script] = names_in(given)
    return found


def common() -> set[str]:
    """The options that the store tells every script that wants them."""
    source = (PACKAGE / "store/store.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self._common":
            assert isinstance(node.value, ast.Dict)
            return names_in(node.value) | {"token", "announced", "calls", "known_rollback"}
    raise AssertionError("no common options")


def test_python_passes_what_the_scripts_declare() -> None:
    """Given the calls in the store, each passes the options that its script declares, and no other. What is passed to
    all is wanted by one.
    """
    calls = passed()

    assert calls.keys() == SCRIPTS.keys() - {
        "workers",
        "error_group",
        "take_letter",
        "silence",
        "deploy",
    }  # whose calls are the reader's, by EVAL
    for name, options in calls.items():
        wanted = set(SCRIPTS[name].options)
        assert options | (common() & wanted) == wanted, name
    assert common() <= {option for script in SCRIPTS.values() for option in script.options}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_no_two_files_of_a_script_declare_the_same_name(script: Script) -> None:
    """Given the names that a script declares outside of all functions, each is one thing."""
    assert [name for name, count in Counter(top_locals(script.source)).items() if count > 1] == []


def example() -> Script:
    texts = {"main": "-- @include lib\n-- @keys leases records...\n-- @option n  many\n", "lib": "-- @families task\n"}
    return assemble(parts_of("main", lambda name: part_from(name, texts[name])))


KEYS = Keys("prefix", "node")


def test_names_become_places_in_one_spot() -> None:
    """Given a call by name, keys come in the order that the script declares, and options in that of
    their names."""
    script = example()
    count, *keys, packed = script.arguments(KEYS.shared(), {"prefix": "p", "unwanted": 1}, {"n": 2}, ["one", "two"])

    assert (count, keys) == (3, [KEYS.leases, "one", "two"])
    assert packed == msgspec.msgpack.encode(2) + msgspec.msgpack.encode("p")
    assert "local n, prefix = cmsgpack.unpack(ARGV[1])" in script.source
    assert "leases = KEYS[1]" in script.source
    assert "task = options.prefix .. 't:'" in script.source


@pytest.mark.parametrize("options", [{}, {"n": 1, "m": 2}, {"m": 1}], ids=str)
def test_a_wrong_name_is_an_error_at_once(options: dict[str, int]) -> None:
    """Given a missing or unknown option, or key, nothing is sent; the error names it."""
    with pytest.raises(ScriptError, match=r"'[mn]'"):
        example().arguments(KEYS.shared(), {"prefix": "p"}, options)
    with pytest.raises(ScriptError, match="leases"):
        example().arguments({}, {"prefix": "p"}, {"n": 1})
    with pytest.raises(ScriptError, match="takes no keys"):
        SCRIPTS["register"].arguments(KEYS.shared(), dict.fromkeys(SCRIPTS["register"].options), {}, ["key"])


@pytest.mark.parametrize(
    "texts",
    [
        {"main": "-- @include one\n", "one": "-- @include two\n", "two": "-- @include one\n"},
        {"main": "-- @keys nothing_of_that_name\n"},
        {"main": "-- @families nothing_of_that_name\n"},
        {"main": "-- @import lib\n"},
        {"main": "-- @include lib\n", "lib": "-- @keys more...\n"},
    ],
    ids=["a circle", "a key", "a family", "a directive", "more keys in an include"],
)
def test_a_head_that_makes_no_sense_is_refused(texts: dict[str, str]) -> None:
    """Given a head that names what there is not, the script is not made."""
    with pytest.raises(ScriptError):
        assemble(parts_of("main", lambda name: part_from(name, texts[name])))


def test_an_include_that_is_not_there_is_refused() -> None:
    with pytest.raises(ScriptError, match="no missing"):
        read_part("missing")


def test_each_include_stands_once_and_behind_what_it_includes() -> None:
    """Given files that include the same one, it comes once, and first."""
    texts = {"main": "-- @include b a\n", "a": "", "b": "-- @include c a\n", "c": "-- @include a\n"}

    assert [part.name for part in parts_of("main", lambda name: part_from(name, texts[name]))] == [
        "a",
        "c",
        "b",
        "main",
    ]


def test_an_include_may_be_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a text that Python makes, files include it as they include others."""
    monkeypatch.setattr(scripts, "GENERATED", {"generated/new": lambda: "local NEW = 1\n"})

    assert read_part("generated/new").text == "local NEW = 1\n"


def test_the_keys_have_the_names_by_which_the_scripts_know_them() -> None:
    """Given the keys of an instance, each that a script may name is there."""
    assert KEYS.for_scripts(7, KEYS.counts("1")).keys() == NAMES.keys()
    assert set(KEYS.shared()) == set(TYPES)
    assert KEYS.task("x") == f"{KEYS.prefix}{FAMILIES['task'].mark}x"
