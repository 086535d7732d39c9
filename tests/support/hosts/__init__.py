"""Real Debian hosts on this machine, with systemd as their first process and a network between them.

    with Bridge() as bridge:
        services = Services(bridge)
        one, two = bridge.host("one", "bookworm"), bridge.host("two", "trixie")
        bridge.start()
        one.push(package)
        one.run("apt-get install -y /tmp/package.deb")

They are systemd-nspawn containers on overlays of an image, so root is needed. A host is up in about three seconds
and takes 20 MB of memory. They have no network but the bridge.
"""

from tests.support.hosts.bridge import Bridge
from tests.support.hosts.host import Host, HostFailed
from tests.support.hosts.image import Suite, build_image
from tests.support.hosts.remote import CommandFailed
from tests.support.hosts.services import RABBITMQ, REDIS, Services

__all__ = [
    "RABBITMQ",
    "REDIS",
    "Bridge",
    "CommandFailed",
    "Host",
    "HostFailed",
    "Services",
    "Suite",
    "build_image",
]
