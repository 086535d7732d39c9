"""Distinguishes entries of one task by their arguments, without keeping the arguments.

A configuration has the arguments as values. An event has their text, which Celery and this program may have shortened
and redacted. Both are converted to one form, of which only a digest is kept.
"""

from __future__ import annotations

from hashlib import blake2b

_MAX_LENGTH = 4000
_MAX_DEPTH = 8
_HIDDEN = ("…", "...", "****")
"""Signs of an incomplete text: the missing part may be the one that differs."""
_SAME = str.maketrans({"(": "[", ")": "]", '"': "'"})


def arguments_of(args: object, kwargs: object) -> str | None:
    """The digest of arguments from a configuration: a list and a dictionary; None if they cannot be compared."""
    try:
        return _digest(_text(args or [], 0), _text(kwargs or {}, 0))
    except ValueError:
        return None


def arguments_of_event(args: str | None, kwargs: str | None) -> str | None:
    """The digest of arguments from an event: the text of Python values; None if they cannot be compared."""
    if args is None and kwargs is None:
        return None
    return _digest(args or "[]", kwargs or "{}")


def _digest(args: str, kwargs: str) -> str | None:
    whole = f"{args} {kwargs}"
    if len(whole) > _MAX_LENGTH or any(sign in whole for sign in _HIDDEN):
        return None
    # JSON returns tuples as lists, and a tuple of one element has a comma.
    plain = "".join(whole.translate(_SAME).split()).replace(",]", "]")
    return blake2b(plain.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _text(value: object, depth: int) -> str:
    """As Python writes it.

    :raises ValueError: if it is too deep, too large, or not a JSON type.
    """
    if depth > _MAX_DEPTH:
        raise ValueError
    if isinstance(value, list):
        if len(value) > _MAX_LENGTH:
            raise ValueError
        return "[" + ", ".join(_text(inner, depth + 1) for inner in value) + "]"
    if isinstance(value, dict):
        if len(value) > _MAX_LENGTH:
            raise ValueError
        return "{" + ", ".join(f"{key!r}: {_text(inner, depth + 1)}" for key, inner in value.items()) + "}"
    if value is None or isinstance(value, (str, bool, float)) or (type(value) is int and abs(value) < 1 << 64):
        return repr(value)
    raise ValueError
