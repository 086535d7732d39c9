"""A network that loses packets: other tests again, in a network of their own that drops one packet in fifty."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import missing
from tests.support.instances import ROOT
from tests.support.machine import patient
from tests.support.process import ServiceMissing, program

HERE = "tests/acceptance/faults"
AGAIN = (
    f"{HERE}/test_faults_instances.py::test_orderly_stops_under_load",
    f"{HERE}/test_faults_redis_broker.py::test_slow_handlers_miss_nothing",
)
LOSSY = """
ip link set lo up
nft add table inet lossy
nft add chain inet lossy input '{ type filter hook input priority 0; }'
nft add rule inet lossy input meta l4proto tcp numgen random mod 100 '<' 2 counter drop
"$@"
status=$?
nft list table inet lossy
exit $status
"""


@pytest.mark.long
@pytest.mark.parametrize("test", AGAIN, ids=["RabbitMQ", "Redis as broker"])
def test_two_percent_of_all_packets_are_lost(test: str) -> None:
    """given brokers and stores behind a network that drops 2 % of all packets, when a fleet is under load, then
    nothing is lost or doubled, and nobody is called lost
    """
    try:
        if os.geteuid() != 0:
            raise ServiceMissing("a network of its own needs root")
        command = [program("unshare"), "--net", "/bin/sh", "-c", LOSSY, "lossy"]
        program("nft")
        program("ip")
    except ServiceMissing as error:
        missing(error)
    command += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patient(240), check=False)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout
    assert "counter packets 0 " not in done.stdout
