"""Redis and RabbitMQ for one test run: on free ports, in temporary folders, stopped with the tests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import amqp
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.erlang import ErlangShell
from tests.support.machine import patient
from tests.support.private import PrivateService, ServiceDied
from tests.support.process import OwnProcess, ServiceMissing, free_port, wait_until
from tests.support.releases import is_redis_6, server_command
from tests.support.rights import PASSWORD, STORE_USER, Permissions, acl_file, documented_permissions

__all__ = ["NO_RETRY", "PrivateRabbitMQ", "PrivateRedis", "ServiceDied", "ServiceMissing", "free_port", "wait_until"]

LIST_QUEUES = """
    Plain = fun
        ({name, {resource, _, queue, Name}}) -> {name, Name};
        ({arguments, Table}) -> {arguments, maps:from_list([{Key, Value} || {Key, _, Value} <- Table])};
        (Pair) -> Pair
    end,
    Queues = rabbit_amqqueue:info_all(<<"%s">>, [%s]),
    iolist_to_binary(rabbit_json:encode([maps:from_list(lists:map(Plain, Queue)) || Queue <- Queues])).
"""
NO_RETRY = Retry(NoBackoff(), 0)
"""A test wants to know at once that a server is gone; redis-py by default tries for several seconds."""


class PrivateRedis(PrivateService):
    """A Redis server; it loses its data when it stops, unless it is told to append them to a file.

    Beside the tests, who may do everything, it knows the monitor's users of `tests.support.rights`.
    """

    DATABASES = 64

    def __init__(self, *, appendonly: bool = False, options: tuple[str, ...] = ()) -> None:
        """Prepare a server.

        :param appendonly: keep the data over stop, kill and restart.
        :param options: more options as for redis-server's command line.
        :raises ServiceMissing: if Redis is not installed.
        """
        self._program = server_command("redis-server")
        super().__init__()
        self._appendonly = appendonly
        self._options = options

    def url(self, db: int = 0) -> str:
        """URL of a database."""
        return f"redis://127.0.0.1:{self.port}/{db}"

    def client(self, db: int = 0, *, decode: bool = True) -> redis.Redis:
        """A client of a database, which answers with str (or bytes); the caller closes it."""
        return redis.Redis.from_url(self.url(db), decode_responses=decode, retry=NO_RETRY)

    def follow(self, primary: PrivateRedis) -> None:
        """Make it a replica, and wait until the primary counts it as one that has all its writes.

        The replica says that the link is up a while before the primary counts it among the good ones.
        """
        with self.client() as client, primary.client() as other:
            client.replicaof("127.0.0.1", str(primary.port))

            def is_counted() -> bool:
                told = other.info("replication")
                replicas = [told[f"slave{number}"] for number in range(told["connected_slaves"])]
                return any(one["port"] == self.port and one["state"] == "online" for one in replicas)

            wait_until(is_counted, what="the replication")

    def copy_data(self, folder: Path) -> None:
        """Copy what it has on disk into a folder that is not there yet, which a server may do at any time."""
        folder.mkdir()
        for part in self._data():
            (shutil.copytree if part.is_dir() else shutil.copy)(part, folder / part.name)

    def replace_data(self, folder: Path) -> None:
        """Put a copy in place of what it has on disk; it must not run."""
        for part in self._data():
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        for part in folder.iterdir():
            shutil.move(part, self.dir / part.name)
        folder.rmdir()

    def _data(self) -> list[Path]:
        # A folder since Redis 7, a file before.
        return list(self.dir.glob("appendonly*"))

    def _spawn(self) -> OwnProcess:
        command = [*self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.dir)]
        command += ["--databases", str(self.DATABASES), "--save", "", "--daemonize", "no"]
        users = self.dir / "users.acl"
        users.write_text(acl_file(self.DATABASES, selectors=not is_redis_6()))
        command += ["--aclfile", str(users)]
        if self._appendonly:
            # Without fsync each command is handed to the kernel before it is answered: SIGKILL loses nothing.
            # With "everysec" the server may hold writes back for two seconds while an fsync is running.
            command += ["--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0"]
        return OwnProcess([*command, *self._options], self.dir / "redis.log")

    def _ready(self) -> bool:
        # It answers INFO, though little else, while it loads its file.
        try:
            with redis.Redis(port=self.port, socket_timeout=2, retry=NO_RETRY) as client:
                info = client.info()
                return info["process_id"] == self.pid and not info["loading"]
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class PrivateRabbitMQ(PrivateService):
    """A RabbitMQ node with a port mapper (epmd) and an Erlang cookie of its own, and no plugins unless asked for.

    Beside guest, who may do everything, it knows the monitor's user of `tests.support.rights`.
    """

    BIN = "/usr/lib/rabbitmq/bin"
    """Where Debian keeps the programs themselves; those in PATH are wrappers that change the user."""

    COOKIE = ".erlang.cookie"
    PLUGINS = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins"
    """What Debian brings: RabbitMQ itself, the libraries that it needs, and all of its plugins."""
    ERLANG = "/usr/lib/erlang/lib"
    """The applications of Erlang itself."""

    def __init__(self, *, config: str = "", exporter: bool = False, joins: PrivateRabbitMQ | None = None) -> None:
        """Prepare a node.

        :param joins: a running node to be in a cluster with. It gives its port mapper, so it is to be closed last.
        :param config: more lines for rabbitmq.conf.
        :param exporter: with the plugin rabbitmq_prometheus, on `exporter_port`.
        :raises ServiceMissing: if RabbitMQ is not installed.
        """
        self._server = server_command("rabbitmq-server", self.BIN)
        self._epmd_program = server_command("epmd")
        super().__init__()
        self._config = config
        self._joins = joins
        self._plugins = "rabbitmq_prometheus" if exporter else ""
        self.exporter_port = free_port()
        self._epmd_port = 0
        self._epmd: OwnProcess | None = None
        self._env: dict[str, str] = {}
        self._shell: ErlangShell | None = None

    @property
    def nodename(self) -> str:
        """Its name in Erlang."""
        return f"tests{self.port}@localhost"

    def url(self, vhost: str = "/") -> str:
        """URL of a virtual host for the user guest, who may do everything."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def connection(self, vhost: str = "/", **options: Any) -> amqp.Connection:
        """An open py-amqp connection, with the options of its class; the caller closes it."""
        host = f"127.0.0.1:{self.port}"
        connection = amqp.Connection(
            host, **{"virtual_host": vhost, "connect_timeout": 5, "read_timeout": 60} | options
        )
        connection.connect()
        return connection

    def ctl(self, *args: str, tool: str = "rabbitmqctl", timeout: float = 60) -> str:
        """Run rabbitmqctl (or rabbitmq-diagnostics, …) against this node, and return what it prints. It takes a second
        of a core: what `evaluate` does costs nothing.

        :raises RuntimeError: if the command fails.
        """
        command = [*server_command(tool, self.BIN), "--quiet", *args]
        done = subprocess.run(
            command, env=self._env, capture_output=True, text=True, timeout=patient(timeout), check=False
        )
        if done.returncode:
            raise RuntimeError(f"{tool} {' '.join(args)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def begin_alarm(self, what: str) -> None:
        """As if the node were short of `memory` or `disk`."""
        self.evaluate(
            {
                "memory": 'ok = vm_memory_monitor:set_vm_memory_high_watermark({absolute, "1"}).',
                "disk": 'ok = rabbit_disk_monitor:set_disk_free_limit("1000000GB").',
            }[what]
        )

    def end_alarms(self) -> None:
        """As if it were not any more."""
        self.evaluate(
            'ok = rabbit_disk_monitor:set_disk_free_limit("1MB"), '
            "ok = vm_memory_monitor:set_vm_memory_high_watermark(0.9)."
        )

    def limit_queues(self, vhost: str, most: int | None) -> None:
        """Let a virtual host have so many queues; any number, if None."""
        name, limits = json.dumps(vhost), json.dumps(json.dumps({"max-queues": most}))
        call = f"clear(<<{name}>>" if most is None else f"parse_set(<<{name}>>, <<{limits}>>"
        self.evaluate(f'ok = rabbit_vhost_limit:{call}, <<"tests">>).')

    def evaluate(self, expressions: str) -> str:
        """What Erlang expressions are worth inside the node, such as those that `rabbitmqctl eval` takes.

        :raises RuntimeError: if they fail.
        """
        if self._shell is None:
            self._shell = ErlangShell(self._env["RABBITMQ_NODENAME"], self._env, self.dir)
        return self._shell.evaluate(expressions)

    def add_vhost(self, name: str) -> str:
        """Create a virtual host for guest and the monitor, and return its URL."""
        self.evaluate(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"tests">>), '
            + _setting_permissions("guest", name, Permissions(".*", ".*", ".*"))
            + ", "
            + _setting_permissions(STORE_USER, name, documented_permissions())
            + "."
        )
        return self.url(name)

    def set_permissions(self, user: str, vhost: str, permissions: Permissions) -> None:
        """What a user may do in a virtual host from now on."""
        self.evaluate(_setting_permissions(user, vhost, permissions) + ".")

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all its queues; its clients are disconnected."""
        self.evaluate(f'ok = rabbit_vhost:delete(<<"{name}">>, <<"tests">>).')

    def queues(self, vhost: str = "/", *columns: str) -> dict[str, dict[str, Any]]:
        """The queues of a virtual host by name, with the columns that ``list_queues`` knows."""
        wanted = columns or ("messages", "messages_ready", "messages_unacknowledged", "consumers", "durable")
        rows = json.loads(self.evaluate(LIST_QUEUES % (vhost, ", ".join(("name", *wanted)))))
        return {row.pop("name"): row for row in rows}

    def kill(self) -> None:
        """End it with SIGKILL. The queues, users and bindings declared until now survive, and persistent messages that
        were confirmed: RabbitMQ 3 confirms a declaration before its disk log is written, so it is asked to do that."""
        if self.running:
            self.evaluate("catch mnesia:sync_log().")
        super().kill()

    def start(self) -> Self:
        """Start it; the first time with the monitor's user, whom it keeps from then on."""
        first = not self._ran
        super().start()
        if first and self._joins is None:
            self.evaluate(
                f'ok = rabbit_auth_backend_internal:add_user(<<"{STORE_USER}">>, <<"{PASSWORD}">>, <<"tests">>), '
                + _setting_permissions(STORE_USER, "/", documented_permissions())
                + ".",
            )
        return self

    def close(self) -> None:
        """End the node and its port mapper for good, and remove the data."""
        if self._shell is not None:
            self._shell.close()
        super().close()
        if self._epmd is not None:
            self._epmd.end()

    def _spawn(self) -> OwnProcess:
        if not self._ran:
            self._configure()
        if self._joins is None and (self._epmd is None or not self._epmd.running):
            # Started here and not by the node, which would leave it running as a daemon.
            command = [*self._epmd_program, "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = OwnProcess(command, self.dir / "epmd.log", env=self._env)
        return OwnProcess(self._server, self.dir / "rabbitmq.log", env=self._env, cwd=self.dir)

    def _configure(self) -> None:
        if self._epmd is not None:
            self._epmd.end()
        self._epmd_port, dist_port = free_port(), free_port()
        cluster = ""
        if self._joins is not None:
            self._epmd_port = self._joins._epmd_port
            cookie = self.dir / self.COOKIE
            cookie.write_text((self._joins.dir / self.COOKIE).read_text())
            cookie.chmod(0o400)
            cluster = "cluster_formation.peer_discovery_backend = classic_config\n"
            cluster += f"cluster_formation.classic_config.nodes.1 = {self._joins.nodename}\n"
        (self.dir / "enabled_plugins").write_text(f"[{self._plugins}].\n")
        # Names are looked up in this file only: otherwise Erlang starts a resolver process for each call.
        (self.dir / "inetrc").write_text('{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n')
        (self.dir / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
            # The disk and memory of a test machine are no reason to block publishers.
            "disk_free_limit.absolute = 1MB\nvm_memory_high_watermark.relative = 0.9\n"
            + (f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {self.exporter_port}\n" if self._plugins else "")
            + f"{cluster}{self._config}\n"
        )
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        self._env = inherited | {
            "HOME": str(self.dir),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_INETRC": str(self.dir / "inetrc"),
            "RABBITMQ_CONFIG_FILE": str(self.dir / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.dir / "no-rabbitmq-env.conf"),
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.dir / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.dir / "feature_flags"),
            "RABBITMQ_LOG_BASE": str(self.dir),
            "RABBITMQ_MNESIA_BASE": str(self.dir / "mnesia"),
            "RABBITMQ_NODENAME": self.nodename,
            "RABBITMQ_PID_FILE": str(self.dir / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # The script then becomes the node itself, so that a signal reaches the node.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
        self._env.pop("NOTIFY_SOCKET", None)
        if not self._plugins and len(self._server) == 1:  # not the server of another root
            self._env["RABBITMQ_PLUGINS_DIR"] = str(self._link_applications())
            self._env["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += f" -pa {self._describe_applications()}"

    def _describe_applications(self) -> Path:
        """A folder with the descriptions of Erlang's and other applications, without the names of their modules. A node
        looks for attributes of its own in all modules that are named, and loads them: for a third of a start it loads
        what it does not use. What it uses of them it finds without."""
        folder = self.dir / "applications"
        folder.mkdir(exist_ok=True)
        for pattern in (self.ERLANG, self.PLUGINS):
            for description in Path("/").glob(f"{pattern.lstrip('/')}/*/ebin/*.app"):
                if not description.stem.startswith("rabbit"):
                    text = re.sub(r"{\s*modules\s*,\s*\[[^]]*\]\s*}", "{modules, []}", description.read_text(), count=1)
                    (folder / description.name).write_text(text)
        return folder

    def _link_applications(self) -> Path:
        """A folder with what RabbitMQ needs and none of its plugins: it looks for each of its modules in the folders of
        all that are there, which is a quarter of what a start costs."""
        folder = self.dir / "plugins"
        folder.mkdir(exist_ok=True)
        for application in Path("/").glob(self.PLUGINS.lstrip("/") + "/*"):
            name = application.name.partition("-")[0]
            if not name.startswith("rabbitmq_") or name == "rabbitmq_prelaunch":
                (folder / application.name).unlink(missing_ok=True)
                (folder / application.name).symlink_to(application)
        return folder

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, amqp.AMQPError):
            self.connection().close()
            return True
        return False


def _setting_permissions(user: str, vhost: str, permissions: Permissions) -> str:
    """In Erlang."""
    words = ", ".join(f"<<{json.dumps(word)}>>" for word in (user, vhost, *permissions, "tests"))
    return f"ok = rabbit_auth_backend_internal:set_permissions({words})"
