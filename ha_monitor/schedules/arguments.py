"""Tells entries of one task apart by their arguments, without keeping these.

A configuration has them as values, an event as the text of these, which Celery and this program may have shortened and
hidden secrets in. Both are brought into one form, of which only a digest is kept.
"""

from __future__ import annotations

from hashlib import blake2b

_LONGEST = 4000
_DEEPEST = 8
_HIDDEN = ("…", "...", "****")
"""In texts that are not whole: what is missing may be what differs."""
_SAME = str.maketrans({"(": "[", ")": "]", '"': "'"})


def arguments_of(args: object, kwargs: object) -> str | None:
    """The digest of arguments in a configuration: lists and dictionaries; None if they cannot be compared."""
    try:
        return _digest(_text(args or [], 0), _text(kwargs or {}, 0))
    except ValueError:
        return None


def arguments_told(args: str | None, kwargs: str | None) -> str | None:
    """The digest of arguments as an event tells them: the texts of Python values; None if they cannot be compared."""
    if args is None and kwargs is None:
        return None
    return _digest(args or "[]", kwargs or "{}")


def _digest(args: str, kwargs: str) -> str | None:
    whole = f"{args} {kwargs}"
    if len(whole) > _LONGEST or any(sign in whole for sign in _HIDDEN):
        return None
    # Tuples come back from JSON as lists, and a tuple of one has a comma.
    plain = "".join(whole.translate(_SAME).split()).replace(",]", "]")
    return blake2b(plain.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _text(value: object, depth: int) -> str:
    """As Python writes it.

    :raises ValueError: if it is too deep, too large, or none that JSON knows.
    """
    if depth > _DEEPEST:
        raise ValueError
    if isinstance(value, list):
        if len(value) > _LONGEST:
            raise ValueError
        return "[" + ", ".join(_text(inner, depth + 1) for inner in value) + "]"
    if isinstance(value, dict):
        if len(value) > _LONGEST:
            raise ValueError
        return "{" + ", ".join(f"{key!r}: {_text(inner, depth + 1)}" for key, inner in value.items()) + "}"
    if value is None or isinstance(value, (str, bool, float)) or (type(value) is int and abs(value) < 1 << 64):
        return repr(value)
    raise ValueError
