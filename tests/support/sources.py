"""The program's own modules, parsed once for all tests that look at them."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@cache
def tree_of(path: Path) -> ast.Module:
    with without_collection():
        return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All nodes, as `ast.walk` has them."""
    with without_collection():
        return tuple(ast.walk(tree_of(path)))


@contextmanager
def without_collection() -> Iterator[None]:
    """Nothing of a tree is garbage. To look for some again and again while it grows takes longer than to parse."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
