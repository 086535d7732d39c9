"""An apt repository and a Python package index of the administrator's own, on a web server that the hosts reach."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.process import program
from tests.support.served import Served


class Repository(Served):
    """Serves a folder: packages below ``apt/<suite>/``, wheels below ``simple/<name>/``, both below ``files/``."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.requests: list[str] = []
        """Paths that were asked for."""
        folder.mkdir(parents=True)
        handler = partial(_Handler, self.requests, directory=str(folder))
        server = ThreadingHTTPServer((address, 0), handler)
        super().__init__(server)
        self.url = f"http://{address}:{server.server_port}"

    def add_packages(self, suite: str, packages: Iterable[Path]) -> None:
        """Add packages to the flat apt repository of a release, and make its lists anew."""
        folder = self.folder / "apt" / suite
        for package in packages:
            _copy(package, folder)
            _copy(package, self.folder / "files")
        entries = "\n".join(_entry(package) for package in sorted(folder.glob("*.deb")))
        (folder / "Packages").write_text(entries)
        checksum = hashlib.sha256(entries.encode()).hexdigest()
        (folder / "Release").write_text(f"Suite: {suite}\nSHA256:\n {checksum} {len(entries.encode())} Packages\n")

    def add_wheels(self, wheels: Iterable[Path]) -> None:
        """Add wheels to the index. The listing of a folder has the links that pip looks for."""
        for wheel in wheels:
            name = re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
            _copy(wheel, self.folder / "simple" / name)
            _copy(wheel, self.folder / "files")

    def apt_source(self, suite: str) -> str:
        """Line for sources.list; it is not signed, and the hosts are told to trust it."""
        return f"deb [trusted=yes] {self.url}/apt/{suite} ./"

    @property
    def index(self) -> str:
        """URL of the Python package index."""
        return f"{self.url}/simple/"

    def asked_for(self, pattern: str) -> bool:
        """Whether a path was asked for that the regular expression is found in."""
        return any(re.search(pattern, path) for path in self.requests)


class _Handler(SimpleHTTPRequestHandler):
    """Notes the paths instead of printing them."""

    def __init__(self, requests: list[str], *arguments: Any, directory: str) -> None:
        self._requests = requests
        super().__init__(*arguments, directory=directory)

    def log_message(self, format: str, *arguments: Any) -> None:
        self._requests.append(self.path)


def _copy(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)


def _entry(package: Path) -> str:
    fields = subprocess.run([program("dpkg-deb"), "-f", str(package)], capture_output=True, text=True, check=True)
    content = package.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    return f"{fields.stdout}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {checksum}\n"
