"""What Redis says about itself (INFO), and which of its settings can cost what the program has written."""

from __future__ import annotations

from collections.abc import Mapping


def read_info(raw: bytes) -> dict[str, str]:
    """The reply to INFO by field."""
    lines = raw.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def risks_of(info: Mapping[str, str], *, by_sentinel: bool, waits: bool = False) -> list[str]:
    """A sentence for each setting under which Redis may lose what it has confirmed, with what to do about it.

    :param info: as `read_info` returns it; what is missing there is as it should be.
    :param by_sentinel: whether sentinels name this Redis, so that they may replace it.
    :param waits: whether the instances themselves wait until replicas have what was written.
    """
    risks = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory", "0") != "0":
        dropped = info.get("evicted_keys", "0")
        so_far = "" if dropped == "0" else f", and has dropped {dropped} keys since it started"
        risks.append(f"maxmemory-policy is {policy}: Redis may drop records{so_far}; set it to noeviction")
    if info.get("aof_enabled") == "0":
        risks.append("appendonly is off: a restart of Redis loses what it did not save; set appendonly yes")
    # Redis names the good replicas only where it refuses writes without them.
    replicas = info.get("connected_slaves", "0")
    is_safe = waits or "min_slaves_good_slaves" in info or info.get("role") != "master"
    if not is_safe and (replicas != "0" or by_sentinel):
        seen = f"{replicas} replicas" if replicas != "0" else "sentinels"
        risks.append(
            f"min-replicas-to-write is 0 on a Redis with {seen}: a fail-over loses what the new primary did not get, "
            "several seconds of it; set min-replicas-to-write 1 and min-replicas-max-lag 2"
        )
    return risks
