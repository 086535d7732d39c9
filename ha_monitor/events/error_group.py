"""The ids of error groups, apart from `fingerprint.py`, so that modules can use them without importing its rule."""

from __future__ import annotations

LENGTH = 10


def group_id(name: str | None, digest: str) -> str:
    """The id of the group for a task name and a fingerprint, as `store/lua/error_groups.lua` computes it.

    :param name: the task's name; None if it is not known.
    """
    # Importing OpenSSL takes a while, and most tasks have no error.
    from hashlib import sha1  # noqa: PLC0415

    text = f"{name or 'unknown'}\n{digest}"
    return sha1(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:LENGTH]
