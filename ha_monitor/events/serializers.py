"""The serializers of Celery's events (`event_serializer`), by the content types that kombu gives them."""

from __future__ import annotations

import re

JSON = frozenset({"application/json", "application/x-json", "text/json"})
MESSAGE_PACK = frozenset({"application/x-msgpack", "application/msgpack"})
READ = JSON | MESSAGE_PACK
_UNREAD = {"application/x-python-serialize": "pickle", "application/x-yaml": "yaml"}
# Instances of earlier versions write "is not read" into the shared record.
_REFUSED = re.compile(r"serialized with (\w+), which is not (?:supported|read)")


def refusal_of(content_type: str) -> str:
    """Why a message is refused whose content type is not in `READ`, and what to do about it."""
    if serializer := _UNREAD.get(content_type):
        return f'serialized with {serializer}, which is not supported: set event_serializer = "json" in the application'
    return f"content type {content_type[:100]!r} is neither JSON nor MessagePack"


def refused_serializer(reason: str) -> str:
    """The serializer that `refusal_of` names; empty if a message was rejected for another reason."""
    found = _REFUSED.match(reason)
    return found[1] if found else ""
