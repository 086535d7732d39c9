"""Asks instances for their health and metrics, as Prometheus and a load balancer do."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.machine import patient
from tests.support.process import free_port

Labels = frozenset[tuple[str, str]]


def free_listen(size: int = 3) -> str:
    """A value for `http.listen` whose ports for the instances 1 to `size`, at most 9, are free."""
    for _ in range(1000):
        base = free_port() // 10
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for number in range(1, size + 1):
                stack.enter_context(socket.create_server(("127.0.0.1", base * 10 + number)))
            return f"127.0.0.1:{base}%i"
    raise OSError("no free ports were found")


def ask(listen: str, instance: str, path: str) -> tuple[int, str]:
    """Status and body of a request to an instance.

    :raises OSError: if nobody answers.
    """
    try:
        with urllib.request.urlopen(f"http://{listen.replace('%i', instance)}{path}", timeout=patient(10)) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def probe(listen: str, instance: str, path: str = "/readyz") -> tuple[int, dict[str, Any]]:
    """Status and answer of a probe."""
    status, body = ask(listen, instance, path)
    return status, json.loads(body)


class Samples:
    """What one scrape brought."""

    def __init__(self, text: str) -> None:
        self.values: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.values, f"{key} is there twice"
                self.values[key] = sample.value

    def of(self, name: str, /, **labels: str) -> dict[Labels, float]:
        """The series of a name that have these labels, by all their labels."""
        wanted = set(labels.items())
        return {found: value for (one, found), value in self.values.items() if one == name and wanted <= found}

    def sum(self, name: str, /, **labels: str) -> float:
        return sum(self.of(name, **labels).values())

    def sums(self, name: str, by: str) -> Mapping[str, float]:
        """Sums of a name by the values of one label."""
        sums: dict[str, float] = {}
        for labels, value in self.of(name).items():
            key = dict(labels).get(by, "")
            sums[key] = sums.get(key, 0.0) + value
        return sums


def scrape(listen: str, instance: str) -> Samples:
    """The metrics of an instance.

    :raises OSError: if nobody answers.
    """
    status, body = ask(listen, instance, "/metrics")
    assert status == 200, body
    return Samples(body)
