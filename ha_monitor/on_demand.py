"""Imports modules of a package without the other modules that its `__init__` would import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


def import_redis() -> None:
    """Import only those parts of redis-py that a command needs to ask the store over one connection. Half of redis-py
    is for asyncio, for clusters, and for the commands that a client knows.
    """
    import_parts("redis", ("connection", "exceptions"))


def import_parts(package: str, parts: Sequence[str]) -> None:
    """Import modules of a package; for a program with one thread. The package's `__init__` runs as soon as anything
    else of the package is used, another module or one of its names, so that no code sees a difference.

    If the modules cannot be imported without `__init__`, nothing remains of the attempt. Nothing happens either if the
    package was imported before, or does not exist.

    :param parts: names of the modules, such as `connection` for `package.connection`.
    """
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is None or spec.loader is None or spec.submodule_search_locations is None:
        return
    module = module_from_spec(spec)
    sys.modules[package] = module
    try:
        for part in parts:
            import_module(f"{package}.{part}")
    except Exception:  # a library's code, run in another order than it was written for
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
    else:
        module.__class__ = _Unfinished
        sys.meta_path.insert(0, _Finisher(module))


class _Unfinished(ModuleType):
    """A package whose `__init__` has not run yet. It runs once a missing name is used. A module of
    `importlib.util.LazyLoader` would be loaded at the first import of one of its modules.
    """

    def __getattr__(self, name: str) -> Any:
        _finish(self)
        return getattr(self, name)


def _finish(package: ModuleType) -> None:
    spec = package.__spec__
    assert spec is not None and spec.loader is not None
    package.__class__ = ModuleType
    sys.meta_path[:] = [one for one in sys.meta_path if not (isinstance(one, _Finisher) and one.package is package)]
    spec.loader.exec_module(package)


class _Finisher(MetaPathFinder):
    """Runs `__init__` before any other module of the package is imported."""

    def __init__(self, package: ModuleType) -> None:
        self.package = package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """:param name: the name of a module that was not imported yet, of this package or another one."""
        if not name.startswith(f"{self.package.__name__}."):
            return None
        _finish(self.package)
        # `__init__` may have imported the module, which must not run a second time. Python would run it again if it
        # were still in `sys.modules`; `_Imported` puts it back there.
        there = sys.modules.pop(name, None)
        return None if there is None else ModuleSpec(name, _Imported(there))


class _Imported(Loader):
    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def exec_module(self, module: ModuleType) -> None:
        """Replace the empty module that Python has made by the one that was already imported."""
        sys.modules[module.__name__] = self._module
