"""The table of all metrics, as `docs/monitoring.md` has it: `python -m tests.support.metrics_table`."""

from __future__ import annotations

import sys

from ha_monitor.metrics.definitions import ALL


def table() -> str:
    """One row a metric: name, kind, meaning, labels, and who exports it."""
    rows = ["| metric | kind | meaning | labels | exported by |", "|---|---|---|---|---|"]
    for metric in ALL:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        who = "the leader" if metric.leader else "each"
        rows.append(f"| `{metric.name}` | {metric.kind.value} | {metric.meaning} | {labels} | {who} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
