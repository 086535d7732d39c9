"""The modules stand on each other in one direction, and each is small enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ha_monitor"
LAYERS = [
    {"errors", "clock", "version", "exit_status", "handling", "supervision", "text", "threads"},
    {"config", "rights"},
    {"events"},
    {"broker", "store", "backend"},
    {"outputs", "metrics"},
    {"pipeline"},
    {"service"},
    {"status", "check"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
"""From the bottom to the top."""
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
APART = [
    *(("broker", "store"), ("backend", "store"), ("backend", "broker")),
    *(("status", "check"), ("demo", "service"), ("demo", "pipeline")),
]
"""Neither may know the other, although the order would allow it."""
PORT = {"api", "results", "outbox", "record", "counts", "reader"}
"""The modules of `store/` that others may know: what the store is asked and answers, whatever keeps it."""
LONGEST = 400
"""Lines."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """The modules of this package that a module imports, wherever in it."""
    names = {name_of(module) for module in MODULES}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "ha_monitor"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            if module.split(".")[0] == "ha_monitor":
                found |= {f"{module}.{alias.name}" for alias in node.names} & names or {module}
    return found


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "ha_monitor"


def test_each_part_stands_on_lower_ones_only() -> None:
    """Given all imports, each leads down or stays inside its part."""
    wrong = []
    for path in MODULES:
        module = name_of(path)
        if module == "ha_monitor":
            continue
        part = part_of(module)
        for imported in imports_of(path):
            below = part_of(imported)
            up = LEVEL[below] > LEVEL[part] or (LEVEL[below] == LEVEL[part] and below != part and LEVEL[part] > 0)
            if up or (part, below) in APART or (below, part) in APART:
                wrong.append(f"{module} imports {imported}")

    assert wrong == []


def test_no_module_imports_itself_by_a_detour() -> None:
    """Given all imports, they form no circle."""
    imports = {name_of(path): imports_of(path) for path in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for imported in imports.get(module, ()):
                visit(imported, (*way, module))
            done.add(module)

    for module in imports:
        visit(module, ())

    assert len(done) == len(MODULES)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_can_be_read_at_once(path: Path) -> None:
    """Given a module, it is no longer than a few screens."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_package_itself_only_exports() -> None:
    """Given `import ha_monitor` in a user's handlers, nothing is done but names made known."""
    body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body

    assert [type(node) for node in body[1:]] == [ast.ImportFrom] * (len(body) - 2) + [ast.Assign]
    assert all(
        isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ha_monitor.") for node in body[1:-1]
    )


def test_foreign_libraries_enter_at_one_place_each() -> None:
    """Given the libraries that talk to services, only the part that translates their errors imports them; the demo,
    which stands for the user's own programs, does too.
    """
    homes = {"redis": {"store", "broker", "demo"}, "amqp": {"broker", "demo"}, "kombu": {"broker", "demo"}}
    wrong = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                home = homes.get(module.split(".")[0])
                if home is not None and part_of(name_of(path)) not in home:
                    wrong.append(f"{name_of(path)} imports {module}")

    assert wrong == []


def test_what_keeps_the_shared_record_is_known_to_the_wiring_alone() -> None:
    """Given all imports from `store/`, only the service, which puts the parts together, knows more than its port: no
    names of keys, no scripts, and no form in which Redis takes values get above it.
    """
    wrong = [
        f"{name_of(path)} imports {imported}"
        for path in MODULES
        if part_of(name_of(path)) not in ("store", "service")
        for imported in imports_of(path)
        if part_of(imported) == "store" and imported.removeprefix("ha_monitor.store.") not in PORT
    ]

    assert wrong == []


def test_the_loop_knows_no_particular_broker() -> None:
    """Given all imports of the loop from `broker/`, they are of its port and of answers that workers give."""
    wrong = [
        f"{name_of(path)} imports {imported}"
        for path in MODULES
        if part_of(name_of(path)) == "pipeline"
        for imported in imports_of(path)
        if part_of(imported) == "broker"
        and imported not in ("ha_monitor.broker.source", "ha_monitor.broker.whereabouts")
    ]

    assert wrong == []


def test_the_port_of_the_store_knows_nothing_of_redis() -> None:
    """Given the modules that others know, those of the port itself stand on no module that talks to Redis."""
    kept_by_redis = {"connection", "keys", "scripts", "packing", "store", "duties", "stuck", "attempts", "damage"}
    wrong = [
        f"{module} imports {imported}"
        for module in sorted(PORT - {"reader"})
        for imported in imports_of(PACKAGE / "store" / f"{module}.py")
        if imported.removeprefix("ha_monitor.store.") in kept_by_redis
    ]

    assert wrong == []
