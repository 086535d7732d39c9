"""Imports modules of a package without the rest of it, which its `__init__` would import as well."""

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
    """Import of redis-py what a command needs that asks the store over one connection: half of it is for asyncio,
    clusters and what a client knows of each command.
    """
    import_parts("redis", ("connection", "exceptions"))


def import_parts(package: str, parts: Sequence[str]) -> None:
    """Import modules of a package; for a program with one thread. The package's `__init__` is run as soon as anything
    else is asked of it, another module or a name of its own, so that nobody sees a difference.

    Where the parts cannot do without it, all is as if this had not been called; so it is if the package was imported
    before, or if there is none.

    :param parts: `connection` for `package.connection`.
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
    except Exception:  # foreign code, in another order than it was written for
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
    else:
        module.__class__ = _Unfinished
        sys.meta_path.insert(0, _Finisher(module))


class _Unfinished(ModuleType):
    """A package whose `__init__` is yet to be run. It waits until something is asked for that is missing, where a
    module of `importlib.util.LazyLoader` would be there from the first import of one of its modules on.
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
    """Is asked for the other modules of the package."""

    def __init__(self, package: ModuleType) -> None:
        self.package = package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """:param name: of any module that was not imported yet."""
        if not name.startswith(f"{self.package.__name__}."):
            return None
        _finish(self.package)
        # By now it may be there, and must not be run a second time. Python would do so if it found it among the
        # modules, to which `_Imported` returns it.
        there = sys.modules.pop(name, None)
        return None if there is None else ModuleSpec(name, _Imported(there))


class _Imported(Loader):
    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def exec_module(self, module: ModuleType) -> None:
        """Have Python go on with the module that there is, in place of the empty one that it has made."""
        sys.modules[module.__name__] = self._module
