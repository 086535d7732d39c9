"""Runs the benchmarks, all or those named, and prints one table. Exit status 1 if a must is missed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchmarks import asking, distance, latency, memory, observed, page, speed, told, until_told, watched, web, workers
from benchmarks.bed import Services
from benchmarks.table import Row, render
from tests.support.services import PrivateRabbitMQ, PrivateRedis

PARTS: dict[str, Callable[[Services], list[Row]]] = {
    "speed": speed.run,
    "latency": latency.run,
    "memory": memory.run,
    "idle": memory.run_idle,
    "observed": observed.run,
    "distance": distance.run,
    "asking": asking.run,
    "workers": workers.run,
    "web": web.run,
    "watched": watched.run,
    "told": told.run,
    "until-told": until_told.run,
    "page": page.run,
}


def main(names: list[str]) -> int:
    unknown = set(names) - PARTS.keys()
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 64
    # Each program would compile its modules anew, which what is installed does not.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows: list[Row] = []
    with PrivateRabbitMQ() as rabbitmq, PrivateRedis() as redis:
        for name in names or PARTS:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            rows += PARTS[name](Services(rabbitmq, redis))
    print(render(rows))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
