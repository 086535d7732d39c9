"""The modules stand on each other in one direction, and each is small enough to be read at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.sources import nodes_of, tree_of

PACKAGE = Path(__file__).resolve().parents[2] / "ha_monitor"
LAYERS = [
    {
        *("errors", "clock", "version", "dialing", "exit_status", "handling", "on_demand", "redis_cluster"),
        *("schedule", "supervision", "text", "threads"),
    },
    {"schedules"},
    {"config", "rights"},
    {"causes", "http"},
    {"events"},
    {"broker", "store", "backend"},
    {"incidents"},
    {"outputs", "metrics", "notify"},
    {"pipeline"},
    {"service"},
    {"status", "check", "query"},
    {"answers"},
    {"demo", "web"},
    {"cli"},
    {"__main__"},
]
"""From the bottom to the top."""
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
APART = [
    *(("broker", "store"), ("backend", "store"), ("backend", "broker")),
    *(("status", "check"), ("query", "service"), ("demo", "service"), ("demo", "pipeline")),
]
"""Neither may know the other, although the order would allow it."""
PORT = {
    "api",
    "results",
    "outbox",
    "record",
    "counts",
    "reader",
    "queries",
    "error_groups",
    "name_statistics",
    "queue_flow",
    "worker_runs",
    "tail",
    "dead_letters",
    "deliveries",
    "schedules",
    "incidents",
}
"""The modules of `store/` that others may know: what the store is asked and answers, whatever keeps it."""
A_LINE = "writes a line; keeps nothing"
COUNTS = "counts, and writes a line now and then; asks for nothing"
PURE = "a function of its arguments"
WORK = "the work of a thread or a part, of the object that makes it"
ASKS = "a function of a lower part, without a state that it shares"
CALLBACKS = {
    "store.redis_incidents.RedisIncidents.commands": ASKS,
    "threads.Threads.trouble": A_LINE,
    "threads.ServiceThread.work": WORK,
    "events.facts.FactBuilder.binary": PURE,
    "metrics.application.Application.refused": COUNTS,
    "metrics.application.Application.scraped": COUNTS,
    "http.connections.Connections.converse": WORK,
    "http.connections.Connections.refused": COUNTS,
    "http.connections.Connections.on_error": COUNTS,
    "metrics.http.HttpServer.broken": COUNTS,
    "metrics.http.HttpServer.not_served": COUNTS,
    "metrics.http.HttpServer.refused": A_LINE,
    "metrics.http.HttpServer.scraped": COUNTS,
    "metrics.http.HttpServer.warn": A_LINE,
    "http.passwords.Passwords.failed": COUNTS,
    "http.rate_limited.RateLimited.say": A_LINE,
    "metrics.scrapes.Guarded.broken": COUNTS,
    "metrics.scrapes.Scrapes.broken": COUNTS,
    "metrics.surveyor.Surveyor.failed": A_LINE,
    "metrics.telemetry.Telemetry.warn": A_LINE,
    "metrics.telemetry._Part.make": WORK,
    "outputs.line.EventLines.render": PURE,
    "outputs.log.LibraryHandler.scrub": PURE,
    "pipeline.investigator.Investigator.backend": ASKS,
    "pipeline.investigator.Investigator.workers": ASKS,
    "pipeline.schedule_discovery.ScheduleDiscovery.confs": ASKS,
    "pipeline.schedule_discovery.ScheduleDiscovery.redbeat": ASKS,
    "store.redis_schedules.RedisSchedules.commands": ASKS,
    "pipeline.redeliveries.Redeliveries.shuffle": PURE,
}
"""The bare callables that constructors below the service take, and why each may be one. What shares a state with the
object that it is given to has a name: a protocol beside that object.
"""
LONGEST = 400
"""Lines."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = frozenset(map(name_of, MODULES))


@cache
def imports_of(path: Path) -> set[str]:
    """The modules of this package that a module imports, wherever in it."""
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "ha_monitor"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            if module.split(".")[0] == "ha_monitor":
                found |= {f"{module}.{alias.name}" for alias in node.names} & NAMES or {module}
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


def test_each_module_can_be_read_at_once() -> None:
    """Given all modules, none is longer than a few screens."""
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_the_package_itself_only_exports() -> None:
    """Given `import ha_monitor` in a user's handlers, nothing is done, and nothing more imported; each name that it
    has for them is what its module has.
    """
    script = """
import sys, ha_monitor
print(*(name for name in sys.modules if name.startswith("ha_monitor.")))
from ha_monitor import *
from ha_monitor import events, handling, store
print(Event is events.model.Event, State is events.catalogue.State, TaskRecord is store.record.TaskRecord)
print(on is handling.on, hasattr(ha_monitor, "of"), *sorted(ha_monitor.__all__))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines() == ["", "True True True", "True False Event State TaskRecord on"]


def test_foreign_libraries_enter_at_one_place_each() -> None:
    """Given the libraries that talk to services, only the part that translates their errors imports them; the demo,
    which stands for the user's own programs, does too.
    """
    homes = {
        "redis": {"causes", "store", "broker", "demo"},
        "amqp": {"causes", "broker", "demo"},
        "kombu": {"broker", "demo"},
    }
    wrong = []
    for path in MODULES:
        for node in nodes_of(path):
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
        and imported not in ("ha_monitor.broker.source", "ha_monitor.broker.task_query")
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


def names_of_callables() -> set[str]:
    """`Callable`, and what modules call a kind of it."""
    return {"Callable"} | {
        target.id
        for path in MODULES
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Callable[")
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def callables_of(path: Path, names: set[str]) -> set[str]:
    """The parameters of constructors in a module that are bare callables, as `module.Class.parameter`."""
    return {
        f"{name_of(path).removeprefix('ha_monitor.')}.{found.name}.{argument.arg}"
        for found in nodes_of(path)
        if isinstance(found, ast.ClassDef)
        for method in found.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        for argument in (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs)
        if argument.annotation is not None
        and names & {node.id for node in ast.walk(argument.annotation) if isinstance(node, ast.Name)}
    }


def test_a_callback_does_not_point_upwards_unseen() -> None:
    """Given all constructors below the service, whatever calls back into what made it has a protocol for that; the bare
    callables that are left are listed, each with the reason why it hides no circle."""
    names = names_of_callables()
    found: set[str] = set()
    for path in MODULES:
        if LEVEL.get(part_of(name_of(path)), 0) < LEVEL["service"]:
            found |= callables_of(path, names)

    assert found == set(CALLBACKS)
