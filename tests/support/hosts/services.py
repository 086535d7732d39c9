"""A host that serves RabbitMQ and Redis to the others."""

from __future__ import annotations

import secrets

from tests.support.hosts.bridge import Bridge
from tests.support.hosts.image import Suite

RABBITMQ = "rabbitmq-server.service"
REDIS = "redis-server.service"


class Services:
    """RabbitMQ and Redis of a Debian release, with a user and a password, on all the host's addresses.

    They are Debian's units: `host.run(f"systemctl stop {RABBITMQ}")` stops one, and what it stored stays on the host.
    """

    def __init__(self, bridge: Bridge, name: str = "services", suite: Suite = "bookworm") -> None:
        """Prepare the host, which is started as any other."""
        self.host = bridge.host(name, suite, services=True)
        self.user = "monitor"
        self.password = secrets.token_hex(16)
        # The user is made when the node first starts. The built-in one, guest, is let in from its own host only.
        rabbitmq = f"default_user = {self.user}\ndefault_pass = {self.password}\n"
        self.host.write("/etc/rabbitmq/rabbitmq.conf", rabbitmq)
        # What comes last in the file holds. Redis may start before the network, so it listens on any address. Without
        # fsync each command is handed to the kernel before it is answered, and the kernel survives a power cut here.
        redis = f"bind *\nport 6379\nrequirepass {self.password}\nappendonly yes\nappendfsync no\n"
        self.host.write("/etc/redis/redis.conf", f"{self.host.read('/etc/redis/redis.conf')}\n{redis}")

    @property
    def broker_url(self) -> str:
        """URL of RabbitMQ's virtual host ``/``."""
        return self.amqp_url("/")

    def amqp_url(self, vhost: str) -> str:
        """URL of a virtual host."""
        return f"amqp://{self.user}:{self.password}@{self.host.address}:5672/{vhost.replace('/', '%2F')}"

    def add_vhost(self, vhost: str) -> str:
        """Make a virtual host, and return its URL."""
        self.host.run(f"rabbitmqctl -q add_vhost {vhost}; rabbitmqctl -q set_permissions -p {vhost} {self.user} . . .")
        return self.amqp_url(vhost)

    def delete_vhost(self, vhost: str) -> None:
        """Delete a virtual host with everything in it."""
        self.host.run(f"rabbitmqctl -q delete_vhost {vhost}")

    def redis_url(self, db: int = 0) -> str:
        """URL of a Redis database, of which there are 16."""
        return f"redis://:{self.password}@{self.host.address}:6379/{db}"
