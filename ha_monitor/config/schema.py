"""Every setting, once: its name, type, bounds, default and meaning.

The file, the environment and the credentials are validated against these classes. A test compares
`docs/configuration.md` and the packaged example with them.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from ha_monitor.config.notify import Notify
from ha_monitor.config.schedules import RedBeat, ScheduleName, ScheduleSettings
from ha_monitor.config.web import Web

Seconds = Annotated[float, Meta(gt=0, le=86400 * 366)]
TimeToLive = Annotated[float, Meta(ge=1, le=86400 * 366)]
"""Time to live in Redis, in seconds; only whole seconds count, so at least 1."""
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.@:-]{1,100}\Z", title="up to 100 letters, digits, and characters of _ . @ : -")
]
"""Error messages show the title of a pattern."""

DEFAULT_REDACTED = [
    "password", "passwd", "passphrase", "passcode", "pass", "pwd", "secret", "token", "api_key", "access_key",
    "private_key", "account_key", "encryption_key", "signing_key", "master_key", "ssh_key", "subscription_key",
    "auth", "authorization", "credential", "dsn", "session", "sessid", "cookie",
]  # fmt: skip
DEFAULT_BUCKETS = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
]  # fmt: skip
"""Seconds. The bounds up to 10 are the defaults of Prometheus' client and of celery-exporter."""


class QueueType(Enum):
    """The type of the event queue on RabbitMQ."""

    QUORUM = "quorum"
    CLASSIC = "classic"


class LogFormat(Enum):
    """The format of a line."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(Enum):
    """The minimum log level."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Broker(Struct, forbid_unknown_fields=True, frozen=True):
    """The broker of Celery's events."""

    url: Annotated[str, Meta(min_length=1, description="Broker URL; several, separated by ;, for failover")] = (
        "amqp://guest:guest@127.0.0.1:5672//"
    )
    heartbeat: Annotated[
        float, Meta(ge=1, le=600, description="AMQP heartbeat and Redis health check interval in seconds")
    ] = 10.0
    connect_timeout: Annotated[
        Seconds, Meta(description="Timeout of one attempt to connect in seconds; at most 3/5 of store.lease")
    ] = 2.5
    prefetch: Annotated[
        int, Meta(ge=1, le=65535, description="Maximum number of unacknowledged messages per instance")
    ] = 1000
    enable_events: Annotated[bool, Meta(description="Enable task events in the workers at each connect")] = False
    exchange: Annotated[Name, Meta(description="Celery's event_exchange")] = "celeryev"
    control_exchange: Annotated[
        Name, Meta(description="Celery's control_exchange, through which the workers are asked")
    ] = "celery"
    tls: Annotated[
        dict[str, Any], Meta(description="TLS options for kombu (ca_certs, certfile, keyfile, cert_reqs)")
    ] = field(default_factory=dict)
    transport_options: Annotated[dict[str, Any], Meta(description="kombu's transport options, passed on unchanged")] = (
        field(default_factory=dict)
    )


class Queue(Struct, forbid_unknown_fields=True, frozen=True):
    """The shared event queue on RabbitMQ. An existing queue keeps its arguments: see docs/operations.md."""

    type: Annotated[QueueType, Meta(description="quorum keeps events through a broker restart; classic does not")] = (
        QueueType.QUORUM
    )
    prefix: Annotated[Name, Meta(description="Celery's event_queue_prefix")] = "celeryev"
    message_ttl: Annotated[Seconds, Meta(description="Seconds that the queue keeps an event")] = 43200.0
    max_length: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="Maximum number of messages; beyond it the oldest is dropped")
    ] = 1_000_000
    expires: Annotated[Seconds, Meta(description="Seconds after which an unused queue is deleted")] = 86400.0
    delivery_limit: Annotated[
        int,
        Meta(ge=1000, le=1_000_000_000, description="Deliveries of one message (quorum) before it is dropped"),
    ] = 1_000_000


class StoreSettings(Struct, forbid_unknown_fields=True, frozen=True):
    """The Redis that all instances share: the store."""

    url: Annotated[
        str, Meta(min_length=1, description="redis://, rediss://, unix:// or sentinel://host,host/service/db")
    ] = "redis://127.0.0.1:6379/0"
    prefix: Annotated[Name, Meta(description="Prefix of every key")] = "ha-monitor"
    timeout: Annotated[Seconds, Meta(description="Timeout of Redis calls in seconds; at most 3/5 of store.lease")] = 2.5
    lease: Annotated[
        float,
        Meta(
            ge=1,
            le=300,
            description="Lease of an instance in seconds; when it expires, another instance takes over its outbox",
        ),
    ] = 5.0
    min_replicas: Annotated[
        int,
        Meta(
            ge=0,
            le=10,
            description="Replicas that must have each write before it is announced and acknowledged; 0 for none",
        ),
    ] = 0
    success_ttl: Annotated[
        TimeToLive, Meta(description="Seconds that the record of a succeeded task is kept; at least queue.message_ttl")
    ] = 86400.0
    failure_ttl: Annotated[
        TimeToLive, Meta(description="Seconds that the record of any other task is kept; at least queue.message_ttl")
    ] = 604800.0
    detail_ttl: Annotated[
        float,
        Meta(
            ge=0,
            le=86400 * 366,
            description="Seconds after which the record of a succeeded task shrinks; at most store.success_ttl, 0 for "
            "never",
        ),
    ] = 0.0
    worker_ttl: Annotated[TimeToLive, Meta(description="Seconds that the record of a silent worker is kept")] = 86400.0
    name_wait: Annotated[
        float,
        Meta(ge=0, le=60, description="Seconds that an announcement waits for the event with the task's name"),
    ] = 2.0

    @property
    def shrinks_after(self) -> int | None:
        """Whole seconds after which the record of a succeeded task shrinks; None if it never does."""
        return max(1, int(self.detail_ttl)) if 0 < self.detail_ttl < self.success_ttl else None

    @property
    def tick_every(self) -> float:
        """Seconds between two ticks; each tick renews the lease."""
        return self.lease / 5

    @property
    def max_wait(self) -> float:
        """Seconds for which the loop may block. The latest renewal may be a tick old when blocking begins, and one more
        tick is left for the next renewal to arrive."""
        return round(self.lease - 2 * self.tick_every, 6)


class BatchSettings(Struct, forbid_unknown_fields=True, frozen=True):
    """When a batch of events is closed and merged."""

    events: Annotated[
        int, Meta(ge=1, le=5000, description="Events that close a batch; its last messages may bring more")
    ] = 500
    time: Annotated[float, Meta(ge=0, le=5, description="Seconds after which a batch is closed")] = 0.02


class Log(Struct, forbid_unknown_fields=True, frozen=True):
    """The lines on standard output."""

    level: Annotated[LogLevel, Meta(description="Minimum log level")] = LogLevel.INFO
    format: Annotated[LogFormat, Meta(description="json for machines, console for people at a terminal")] = (
        LogFormat.JSON
    )
    arguments: Annotated[bool, Meta(description="Store and write the tasks' arguments")] = False
    results: Annotated[bool, Meta(description="Store and write the tasks' results")] = False
    redact: Annotated[
        list[Annotated[str, Meta(min_length=1)]],
        Meta(description="Parts of key names whose values are replaced by ***"),
    ] = field(default_factory=lambda: list(DEFAULT_REDACTED))
    max_value_length: Annotated[
        int, Meta(ge=16, le=65536, description="Maximum length of an argument list, result or exception in characters")
    ] = 1024


class Handlers(Struct, forbid_unknown_fields=True, frozen=True):
    """Your own functions, called for events."""

    modules: Annotated[
        list[Annotated[str, Meta(min_length=1)]], Meta(description="Python modules with @on functions")
    ] = field(default_factory=list)
    attempts: Annotated[
        int, Meta(ge=1, le=100, description="Calls of a failing handler before the event becomes a dead letter")
    ] = 5
    backoff: Annotated[Seconds, Meta(description="Seconds before the first retry; doubled at each further one")] = 1.0
    dead_letters: Annotated[int, Meta(ge=1, le=1_000_000, description="Maximum number of dead letters in Redis")] = 1000


class Http(Struct, forbid_unknown_fields=True, frozen=True):
    """Health and metrics of one instance over HTTP: /livez, /readyz and /metrics."""

    listen: Annotated[
        str,
        Meta(
            pattern=r"^\Z|^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):[0-9]*(%i)?\Z",
            title="host:port, such as 127.0.0.1:9540 or [::1]:954%i",
            description="Address and port, such as 127.0.0.1:954%i; %i is the instance's name; empty for none",
        ),
    ] = ""
    username: Annotated[str, Meta(description="User name required of clients; empty for none")] = ""
    password: Annotated[str, Meta(description="Password required of clients")] = ""
    tls_certificate: Annotated[str, Meta(description="PEM file with the certificate chain; empty for plain HTTP")] = ""
    tls_key: Annotated[str, Meta(description="PEM file with the certificate's key")] = ""
    stalled_after: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds without progress after which /livez and /readyz fail")
    ] = 30.0


class WorkerLabels(Enum):
    """How metrics label the workers."""

    NODENAME = "nodename"
    HOSTNAME = "hostname"
    NONE = "none"


class Metrics(Struct, forbid_unknown_fields=True, frozen=True):
    """What /metrics counts, with http.listen, and which task queues are surveyed; the same for all instances."""

    worker_labels: Annotated[
        WorkerLabels,
        Meta(description="nodename: labels hostname and worker; hostname: only the first; none: neither"),
    ] = WorkerLabels.NODENAME
    max_series: Annotated[
        int,
        Meta(
            ge=1000,
            le=1_000_000,
            description="Maximum number of series of tasks per instance; near it, series are not split by worker",
        ),
    ] = 100_000
    worker_histograms: Annotated[
        bool, Meta(description="Label the histograms with the worker, too; multiplies the series")
    ] = False
    buckets: Annotated[
        list[Annotated[float, Meta(gt=0, le=1e9)]],
        Meta(min_length=1, max_length=50, description="Upper bounds of the histograms in seconds"),
    ] = field(default_factory=lambda: list(DEFAULT_BUCKETS))
    survey_interval: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds between two surveys of the task queues by the leader")
    ] = 15.0
    queues: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=255)]],
        Meta(max_length=1000, description="Task queues to survey even if no worker was ever seen to consume them"),
    ] = field(default_factory=list)
    default_queue: Annotated[
        str,
        Meta(
            max_length=255,
            description="Queue of tasks without task-sent whose worker consumes several queues; empty for `unknown`",
        ),
    ] = ""


class Workers(Struct, forbid_unknown_fields=True, frozen=True):
    """When a Celery worker without heartbeats counts as late and as lost, and whether to detect lost events."""

    late_after: Annotated[
        float, Meta(ge=3, le=86400, description="Seconds of silence after which a worker is late")
    ] = 10.0
    lost_after: Annotated[
        float,
        Meta(
            ge=5,
            le=86400,
            description="Seconds of silence after which a worker is lost and the line worker-lost is written",
        ),
    ] = 60.0
    count_losses: Annotated[
        bool,
        Meta(description="Detect lost events by the runs that workers count; false if tasks have send_events=False"),
    ] = True


class ResultBackend(Struct, forbid_unknown_fields=True, frozen=True):
    """Celery's result backend. It is only read, to find out how a task ended whose last event never arrived."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(?!rpc:|amqp:)",
            title="a URL of another kind than rpc:// and amqp://",
            description="Celery's result_backend; not rpc://; empty for none",
        ),
    ] = ""
    transport_options: Annotated[
        dict[str, Any], Meta(description="Celery's result_backend_transport_options, passed on unchanged")
    ] = field(default_factory=dict)


Limit = Annotated[float, Meta(ge=0, le=86400 * 366)]


class TaskLimits(Struct, forbid_unknown_fields=True, frozen=True):
    """Limits for tasks by name; a limit left out is the general one. Seconds; 0 for no limit."""

    sent_after: Limit | None = None
    received_after: Limit | None = None
    started_after: Limit | None = None


class StuckSettings(Struct, forbid_unknown_fields=True, frozen=True):
    """When a task counts as stuck and the line task-stuck is written. See docs/monitoring.md."""

    enabled: Annotated[bool, Meta(description="Detect tasks that are stuck or whose worker is lost")] = True
    sent_after: Annotated[
        Limit, Meta(description="Seconds within which a sent task must be received; 0 for no limit")
    ] = 3600.0
    received_after: Annotated[
        Limit, Meta(description="Seconds within which a received task must start; 0 for no limit")
    ] = 3600.0
    started_after: Annotated[
        Limit, Meta(description="Seconds that a run may take while there is no baseline run time; 0 for no limit")
    ] = 3600.0
    run_time_factor: Annotated[
        float,
        Meta(
            ge=0, le=10_000, description="Multiple of its baseline run time that a run may take; 0 to use started_after"
        ),
    ] = 10.0
    tasks: Annotated[
        dict[str, TaskLimits],
        Meta(description='Limits by task name, the first match applies: {"reports.*" = {started_after = 14400}}'),
    ] = field(default_factory=dict)


class Config(Struct, forbid_unknown_fields=True, frozen=True):
    """The whole configuration of one instance."""

    node_id: Annotated[Name, Meta(description="Common to all instances; the queue is <prefix>.<node_id>")] = (
        "ha-monitor"
    )
    schedules: Annotated[
        dict[ScheduleName, ScheduleSettings],
        Meta(
            max_length=1000,
            description='Schedules by name, in addition to those that workers report: {"import" = {task = "shop.load", '
            'every = "1h"}}; the keys are in docs/schedules.md',
        ),
    ] = field(default_factory=dict)
    broker: Broker = field(default_factory=Broker)
    queue: Queue = field(default_factory=Queue)
    store: StoreSettings = field(default_factory=StoreSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    log: Log = field(default_factory=Log)
    handlers: Handlers = field(default_factory=Handlers)
    http: Http = field(default_factory=Http)
    metrics: Metrics = field(default_factory=Metrics)
    workers: Workers = field(default_factory=Workers)
    stuck: StuckSettings = field(default_factory=StuckSettings)
    result_backend: ResultBackend = field(default_factory=ResultBackend)
    notify: Notify = field(default_factory=Notify)
    redbeat: RedBeat = field(default_factory=RedBeat)
    web: Web = field(default_factory=Web)

    @property
    def queue_name(self) -> str:
        """Name of the shared queue, built as Celery's receiver builds it."""
        return f"{self.queue.prefix}.{self.node_id}"

    @property
    def pages_url(self) -> str:
        """The address for links in messages; empty for none."""
        return self.notify.base_url or self.web.url
