"""What Redis says about itself (INFO), and which of its settings can cost what the program has written."""

from __future__ import annotations

from collections.abc import Mapping

from ha_monitor.store.results import StoreInfo

_FAILED_SAVES = {
    "aof_last_write_status": "cannot write its append-only file: a restart loses everything since then",
    "aof_last_bgrewrite_status": "could not rewrite its append-only file, which grows until the disk is full",
    "rdb_last_bgsave_status": "could not save to disk, and may refuse writes for that (stop-writes-on-bgsave-error)",
}
"""Fields that are "ok" as long as something works -> what does not work otherwise."""
ASK = "local reply = redis.pcall('INFO') return type(reply) == 'table' and reply.err or reply"
"""A script that runs INFO. If INFO is forbidden, it returns Redis's error text instead of failing."""


def read_info(raw: bytes) -> dict[str, str]:
    """The reply to `ASK` by field; empty if INFO is forbidden."""
    lines = raw.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def risks_of(info: Mapping[str, str], *, by_sentinel: bool, waits: bool = False) -> list[str]:
    """A sentence for each setting under which Redis may lose what it has confirmed, with what to do about it.

    :param info: as returned by `read_info`; missing fields count as good.
    :param by_sentinel: whether sentinels name this Redis, so that they may replace it.
    :param waits: whether the instances themselves wait until replicas have what was written.
    """
    risks = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory", "0") != "0":
        risks.append(f"maxmemory-policy is {policy}: Redis may evict records; set it to noeviction")
    if info.get("aof_enabled") == "0":
        risks.append("appendonly is off: a restart of Redis loses unsaved data; set appendonly yes")
    for field, what in _FAILED_SAVES.items():
        if info.get(field, "ok") != "ok":
            risks.append(f"Redis {what}; its log says why: make room on its disk, or let it write to its folder")
    # Redis reports the number of good replicas only if it refuses writes without them.
    replicas = info.get("connected_slaves", "0")
    is_safe = waits or "min_slaves_good_slaves" in info or info.get("role") != "master"
    if not is_safe and (replicas != "0" or by_sentinel):
        seen = f"{replicas} replicas" if replicas != "0" else "sentinels"
        risks.append(
            f"min-replicas-to-write is 0 on a Redis with {seen}: a fail-over loses what the new primary did not get, "
            "several seconds of it; set min-replicas-to-write 1 and min-replicas-max-lag 2"
        )
    return risks


def store_info(info: Mapping[str, str], *, by_sentinel: bool, waits: bool) -> StoreInfo:
    """The risks, and the number of keys that Redis has evicted. See `risks_of` for the parameters."""
    dropped = info.get("evicted_keys", "0")
    risks = risks_of(info, by_sentinel=by_sentinel, waits=waits)
    return StoreInfo(risks, int(dropped) if dropped.isdecimal() else 0)
