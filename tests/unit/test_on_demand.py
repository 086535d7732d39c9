"""Modules of a package without the rest of it: nobody sees a difference but in how long the import takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = {
    "__init__.py": "from shelf import heavy\nfrom shelf.light import answer\nname, first_heavy = 'shelf', heavy\n",
    "light.py": "import shelf\ndef answer(): return 42\ndef name(): return shelf.name\n",
    "heavy.py": "from shelf import light\nweight = light.answer()\n",
    "needy.py": "from shelf import name\n",
}


def outcome(script: str, folder: Path) -> list[str]:
    """What a program writes that has some of the package."""
    for file, text in PACKAGE.items():
        path = folder / "shelf" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    start = f"import sys\nsys.path.insert(0, {str(folder)!r})\nfrom ha_monitor.on_demand import import_parts\n"
    done = subprocess.run(
        [sys.executable, "-c", start + script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "use",
    [
        pytest.param("import shelf; shelf.heavy", id="an attribute"),
        pytest.param("from shelf import name", id="a name"),
        pytest.param("import shelf.heavy", id="another module"),
        pytest.param("from shelf import heavy", id="another module from it"),
        pytest.param("import shelf; shelf.light.name()", id="a name that the part itself asks for"),
    ],
)
def test_the_rest_is_there_as_soon_as_it_is_asked_for(use: str, tmp_path: Path) -> None:
    """Given one module of a package, the rest is not imported until somebody uses it, in whichever way."""
    script = f"""
import_parts("shelf", ["light"])
import shelf.light
first = shelf.light.answer
print(first(), "shelf.heavy" in sys.modules)
{use}
import shelf
print(shelf.heavy.weight, shelf.name, shelf.answer is first, type(shelf).__name__)
import shelf.heavy as heavy
print(hasattr(shelf, "nothing"), heavy is shelf.first_heavy is sys.modules["shelf.heavy"])
"""
    assert outcome(script, tmp_path) == ["42 False", "42 shelf True module", "False True"]


def test_a_part_that_needs_the_package_gets_it(tmp_path: Path) -> None:
    """Given a module that cannot be imported without its package, all is imported as ever."""
    script = """
import_parts("shelf", ["light", "needy"])
print("shelf" in sys.modules)
import shelf.needy
print(shelf.needy.name, "shelf.heavy" in sys.modules)
"""
    assert outcome(script, tmp_path) == ["False", "shelf True"]


def test_a_package_that_is_there_or_is_not_is_left_alone(tmp_path: Path) -> None:
    """Given a package that was imported before, or that is not installed, nothing is done."""
    script = """
import shelf
import_parts("shelf", ["light"])
import_parts("no_such_package", ["light"])
print(sys.modules["shelf"] is shelf, shelf.name, "no_such_package" in sys.modules)
"""
    assert outcome(script, tmp_path) == ["True shelf False"]


def test_redis_py_works_in_parts_and_whole(tmp_path: Path) -> None:
    """Given a connection of redis-py alone, its clients are imported once they are asked for, and are of the same
    classes.
    """
    script = """
from ha_monitor.on_demand import import_redis
import_redis()
import redis.connection, redis.exceptions
connection, error = redis.connection.Connection, redis.exceptions.RedisError
print("redis.client" in sys.modules, "redis.asyncio" in sys.modules)
try:
    connection(port=9, protocol=2).connect()
except error:
    print("redis.client" in sys.modules, "redis.asyncio" in sys.modules)
print(redis.Redis.__name__, redis.RedisError is error, redis.Connection is connection, redis.__version__[0].isdigit())
import redis.asyncio, redis.sentinel
print(issubclass(redis.sentinel.SentinelManagedConnection, connection), redis.Sentinel is redis.sentinel.Sentinel)
"""
    assert outcome(script, tmp_path) == ["False False", "False False", "Redis True True True", "True True"]
