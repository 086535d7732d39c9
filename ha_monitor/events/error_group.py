"""The ids of groups of errors, for those who need to know nothing of how errors are told apart (`fingerprint.py`)."""

from __future__ import annotations

LENGTH = 10


def group_id(name: str | None, digest: str) -> str:
    """The id of the group of a task's errors with a fingerprint, as `store/lua/error_groups.lua` makes it.

    :param name: the task's; None if it is not known.
    """
    # OpenSSL takes a while to import, and most tasks have no error.
    from hashlib import sha1  # noqa: PLC0415

    text = f"{name or 'unknown'}\n{digest}"
    return sha1(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:LENGTH]
