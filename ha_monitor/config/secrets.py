"""Keeps passwords out of everything that is shown or logged."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from ha_monitor.config.notify import secret_texts
from ha_monitor.config.schema import Config
from ha_monitor.text.grammar import HIDDEN
from ha_monitor.text.visible import CUT_MARK

_USER_INFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^/@\s:]*):(?P<password>[^/\s]*)@", re.IGNORECASE)
_QUERY = re.compile(r"(?P<key>[?&](?:\w*_)?password=)(?P<password>[^&\s;]*)", re.IGNORECASE)
_SECRET_KEY = re.compile(r"password|passwd|secret|token", re.IGNORECASE)
_MIN_BEGINNING = 3
"""Characters. A shorter beginning of a password would mask the end of ordinary words."""
_MAX_CUTS = 8
"""Places where a text was cut that are looked at, from its end."""
_ASSIGNED = re.compile(rf"(?:{_SECRET_KEY.pattern})[^=:]{{0,10}}[=:]", re.IGNORECASE)


def mask_url(text: str) -> str:
    """Replace the password of every URL in a text, and all other known secret patterns."""
    # The patterns take a while to compile, and most commands show no untrusted text.
    from ha_monitor.text.secrets import BY_LOOKS  # noqa: PLC0415

    return _QUERY.sub(rf"\g<key>{HIDDEN}", BY_LOOKS.hide(text))


def mask(key: str, value: Any) -> str:
    """Show a configuration value in an error without showing a secret."""
    if _SECRET_KEY.search(key) or isinstance(value, dict):
        return HIDDEN
    text = mask_url(value if isinstance(value, str) else repr(value))
    if _ASSIGNED.search(text.replace(HIDDEN, "")) or (key.endswith("url") and HIDDEN not in text and "@" in text):
        return HIDDEN
    return text if len(text) <= 200 else text[:200] + "…"


class Scrubber:
    """Removes the configured passwords from untrusted texts, such as a library's error."""

    def __init__(self, config: Config) -> None:
        found: set[str] = set()
        for text in (config.broker.url, config.store.url, config.result_backend.url, config.redbeat.url):
            for pattern in (_USER_INFO, _QUERY):
                for match in pattern.finditer(text):
                    found |= {match["password"], unquote(match["password"])}
        for options in (config.broker.tls, config.broker.transport_options, config.result_backend.transport_options):
            found |= set(_secrets_in(options))
        found |= {config.http.password, config.web.password}
        found |= secret_texts(config.notify.secrets)
        # Very short passwords would mask ordinary words; in URLs they are masked nevertheless.
        self._secrets = sorted(
            (secret for secret in found if len(secret) > 3 and secret != "guest"), key=len, reverse=True
        )

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if CUT_MARK in text:
            *before, last = text.rsplit(CUT_MARK, _MAX_CUTS)
            text = CUT_MARK.join([*map(self._without_beginning, before), last])
        return mask_url(text)

    def _without_beginning(self, text: str) -> str:
        """The text, which was cut at its end, without the beginning of a password there."""
        lengths = [
            length
            for secret in self._secrets
            for length in range(_MIN_BEGINNING, len(secret))
            if text.endswith(secret[:length])
        ]
        return text[: len(text) - max(lengths)] + HIDDEN if lengths else text


def _secrets_in(options: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for key, value in options.items():
        if isinstance(value, dict):
            found += _secrets_in(value)
        elif isinstance(value, str) and _SECRET_KEY.search(key):
            found.append(value)
    return found
