"""Styles, scripts and pictures: read once, and served under names that change with their content."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static/"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
}
_COMPRESSED = {".css", ".js", ".svg", ".txt"}


class StaticFile(NamedTuple):
    """A file as it is served."""

    type: str
    body: bytes
    compressed: bytes | None
    """Compressed with gzip; None if that is not shorter."""


class StaticFiles:
    """All files in the folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._paths: dict[str, str] = {}
        self._files: dict[str, StaticFile] = {}
        for path in _files_in(folder):
            body = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            stem, dot, suffix = name.rpartition(".")
            served = f"{stem}.{hashlib.sha256(body).hexdigest()[:12]}{dot}{suffix}"
            compressed = gzip.compress(body, 9, mtime=0) if path.suffix in _COMPRESSED else body
            self._paths[name] = PREFIX + served
            self._files[PREFIX + served] = StaticFile(
                TYPES[path.suffix], body, compressed if len(compressed) < len(body) else None
            )

    def path_of(self, name: str) -> str:
        """The path under which a file is served.

        :raises KeyError: if there is no such file.
        """
        return self._paths[name]

    def get(self, path: str) -> StaticFile | None:
        """The file that is served under a path; None if there is none."""
        return self._files.get(path)

    def named(self, name: str) -> StaticFile | None:
        """A file by its original name; None if there is none."""
        path = self._paths.get(name)
        return None if path is None else self._files[path]


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in TYPES and path.is_file())
