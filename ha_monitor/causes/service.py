"""What a person has configured for a service, so that an error can name the setting."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ha_monitor.config.urls import scheme_of
from ha_monitor.errors import reason_of

FILES = ("ca_certs", "certfile", "keyfile")
"""The TLS files, under the names that Python, py-amqp and redis-py use."""
_TLS = {"amqps": "amqp", "rediss": "redis"}
"""Schemes with TLS → the same without."""
_PLAIN = {"amqp": "amqps", "pyamqp": "amqps", "redis": "rediss"}
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>|\w+<[^<>]*>")
"""An object as Python or redis-py prints it, such as `Redis<ConnectionPool<Connection<host=h>>>`; matches the
innermost.
"""
_DECORATION = re.compile(r"^\[[^]]*\] ?| ?\(_ssl\.c:\d+\)$|^_ssl\.c:\d+: ")


class Cause(NamedTuple):
    """Why a call failed."""

    text: str
    lasting: bool = False
    """Whether waiting alone does not help: somebody must correct a setting, or grant a right."""


class Service(NamedTuple):
    """A broker, a store or a result backend, as configured."""

    setting: str
    """The setting that holds the URL, such as `broker.url`."""
    url: str
    timeout: str = ""
    """The setting that limits how long a call waits; empty if there is none."""
    seconds: float = 0.0
    """The value of that setting."""
    tls: Mapping[str, str] = {}
    """TLS options besides those in the URL."""
    tls_setting: str = ""
    """The setting that holds these options, such as `broker.tls`."""

    @property
    def scheme(self) -> str:
        return scheme_of(self.url)

    @property
    def uses_tls(self) -> bool:
        return self.scheme in _TLS or bool(self.tls) or any(name.startswith("ssl") for name in self._in_url())

    @property
    def without_tls(self) -> str:
        """What to set to connect without TLS."""
        if self.scheme in _TLS:
            return f"{_TLS[self.scheme]}:// instead of {self.scheme}://"
        return f"no {self.tls_setting}" if self.tls else f"no ssl=true in {self.setting}"

    @property
    def with_tls(self) -> str:
        """What to set to connect with TLS."""
        if self.scheme in _PLAIN:
            return f"{_PLAIN[self.scheme]}:// instead of {self.scheme}://"
        return f"ssl=true in {self.setting}"

    def option(self, name: str) -> str:
        """A TLS option; empty if it is not set."""
        return self._in_url().get(f"ssl_{name}") or str(self.tls.get(name) or self.tls.get(f"ssl_{name}") or "")

    def name_of(self, option: str) -> str:
        """Where a person sets a TLS option."""
        if self.tls_setting and f"ssl_{option}" not in self._in_url():
            return f"{self.tls_setting}.{option}"
        return f"ssl_{option} in {self.setting}"

    def faulty_file(self) -> str:
        """The first TLS file that cannot be used: its setting, and why; empty if all can be used."""
        paths = {name: path for name in FILES if (path := self.option(name))}
        for name, path in paths.items():
            try:
                Path(path).read_bytes()
            except OSError as error:
                return f"{self.name_of(name)} = {path}: {error.strerror}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            at = "ca_certs"
            if at in paths:
                context.load_verify_locations(paths[at])
            at = "certfile"
            if at in paths:
                # Without a password, OpenSSL would prompt for one at the terminal.
                context.load_cert_chain(paths[at], paths.get("keyfile"), self.option("password") or str)
        except (ssl.SSLError, ValueError) as error:
            more = (
                f" with {self.name_of('keyfile')} = {paths['keyfile']}" if at != "ca_certs" and len(paths) > 1 else ""
            )
            return f"{self.name_of(at)} = {paths[at]}{more} cannot be used: {undecorated(error)}"
        return ""

    def _in_url(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query))


def plain_text(error: BaseException) -> str:
    """As `reason_of`, without the object representations that a library puts into its text."""
    return _OBJECT.sub("…", _OBJECT.sub("…", _OBJECT.sub("…", reason_of(error))))


def undecorated(error: BaseException) -> str:
    """What OpenSSL says, without its codes and its position in Python's source."""
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(_DECORATION.sub("", text).split()).rstrip(".") or type(error).__name__
