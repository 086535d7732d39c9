"""kombu's envelope of a message on a broker without message properties, such as Redis.

It is a JSON object that anybody with the right to publish may have written: every part of it may be missing, wrong or
hostile.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any

import msgspec

from ha_monitor.events.body import MAX_BODY, SMALL_BODY, check_size, lenient_json
from ha_monitor.events.decode import Message
from ha_monitor.events.facts import BadEvent
from ha_monitor.events.long_texts import TextTruncator

_MAX_REST = 64 * 1024
"""Maximum bytes of headers and properties."""
MAX_ENVELOPE = MAX_BODY // 3 * 4 + _MAX_REST
"""Maximum bytes of an ordinary envelope: the largest body in base64, with headers and properties. A larger envelope is
read only if its body is JSON, whose long texts are then truncated.
"""
MAX_LARGE_ENVELOPE = 32 * MAX_ENVELOPE
"""Maximum bytes of any envelope. By default, Redis does not deliver even a fifth of this."""
_LARGE_BODY = re.compile(rb'"body"[ ]*+:[ ]*+"([A-Za-z0-9+/=]*+)"')
_PIECE = 1024 * 1024
"""Bytes of base64 decoded at once; a multiple of four."""

_decode = msgspec.json.Decoder().decode


def read_envelope(payload: bytes) -> Message:
    """The message in an envelope. Never raises: if something is wrong, the message's `fault` says what."""
    if len(payload) > MAX_LARGE_ENVELOPE:
        return Message(b"", "", "", fault=f"envelope of {len(payload)} bytes is larger than {MAX_LARGE_ENVELOPE}")
    try:
        return _message(_json(payload)) if len(payload) <= MAX_ENVELOPE else _large_message(payload)
    except BadEvent as error:
        return Message(payload[:MAX_ENVELOPE], "", "", fault=f"envelope: {error}")


def _large_message(payload: bytes) -> Message:
    """The message in a large envelope, whose decoded body is never held as a whole."""
    too_large = f"envelope of {len(payload)} bytes is larger than {MAX_ENVELOPE}"
    body = _LARGE_BODY.search(payload)
    if body is None or len(payload) - (body.end(1) - body.start(1)) > _MAX_REST:
        return Message(b"", "", "", fault=too_large)
    start, end = body.span(1)
    envelope = _json(payload[:start] + payload[end:])
    message = _message(envelope)
    if not message.is_plain_json or _encoding(envelope) != "base64":
        return Message(b"", "", "", fault=too_large)
    texts = TextTruncator()
    try:
        for piece in range(start, end, _PIECE):
            texts.add(b64decode(payload[piece : min(piece + _PIECE, end)]))
    except ValueError as error:
        raise BadEvent(f"body is not base64: {error}") from None
    return message._replace(body=texts.finish())


def _json(payload: bytes) -> Any:
    if len(payload) > SMALL_BODY:
        check_size(payload, MAX_ENVELOPE)
    try:
        return _decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return lenient_json(payload)


def _message(envelope: Any) -> Message:
    if type(envelope) is not dict:
        raise BadEvent(f"expected an object, not {type(envelope).__name__}")
    body = envelope.get("body")
    if type(body) is not str:
        raise BadEvent(f"body must be a text, not {type(body).__name__}")
    return Message(
        _body(body, _encoding(envelope)),
        _text(envelope, "content-type"),
        _text(envelope, "content-encoding"),
        _text(_part(envelope, "headers"), "compression"),
    )


def _encoding(envelope: dict[str, Any]) -> Any:
    return _part(envelope, "properties").get("body_encoding")


def _body(body: str, encoding: Any) -> bytes:
    if encoding is None:
        return body.encode("utf-8", "replace")
    if encoding != "base64":
        raise BadEvent(f"unknown body_encoding {str(encoding)[:100]!r}")
    try:
        return b64decode(body)
    except ValueError as error:
        raise BadEvent(f"body is not base64: {error}") from None


def _part(envelope: dict[str, Any], name: str) -> dict[str, Any]:
    part = envelope.get(name)
    if part is None:
        return {}
    if type(part) is not dict:
        raise BadEvent(f"{name} must be an object, not {type(part).__name__}")
    return part


def _text(part: dict[str, Any], name: str) -> str:
    text = part.get(name)
    if text is None:
        return ""
    if type(text) is not str:
        raise BadEvent(f"{name} must be a text, not {type(text).__name__}")
    return text
