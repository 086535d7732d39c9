"""Every setting, once: its name, type, bounds, default and meaning.

The classes are the schema that the file, the environment and the credentials are validated against;
`docs/configuration.md` and the packaged example are held to it by a test.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(gt=0, le=86400 * 366)]
TimeToLive = Annotated[float, Meta(ge=1, le=86400 * 366)]
"""Seconds for which Redis keeps something: whole ones, so at least one."""
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.@:-]{1,100}\Z", title="up to 100 letters, digits, and characters of _ . @ : -")
]
"""The title of a pattern is what an error says is expected."""

DEFAULT_REDACTED = [
    "password", "passwd", "passphrase", "passcode", "pass", "pwd", "secret", "token", "api_key", "access_key",
    "private_key", "account_key", "encryption_key", "signing_key", "master_key", "ssh_key", "subscription_key",
    "auth", "authorization", "credential", "dsn", "session", "sessid", "cookie",
]  # fmt: skip
DEFAULT_BUCKETS = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
]  # fmt: skip
"""Seconds. Up to 10 the bounds that Prometheus' client and celery-exporter have by default."""


class QueueType(Enum):
    """What the event queue is on RabbitMQ."""

    QUORUM = "quorum"
    CLASSIC = "classic"


class LogFormat(Enum):
    """How a line is written."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(Enum):
    """The least level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Broker(Struct, forbid_unknown_fields=True, frozen=True):
    """Where Celery's events come from."""

    url: Annotated[str, Meta(min_length=1, description="Broker URL; several with ; between for fail-over")] = (
        "amqp://guest:guest@127.0.0.1:5672//"
    )
    heartbeat: Annotated[
        float, Meta(ge=1, le=600, description="AMQP heartbeat, and Redis health check, in seconds")
    ] = 10.0
    connect_timeout: Annotated[
        Seconds, Meta(description="Seconds that one attempt to connect may take; at most 3/5 of store.lease")
    ] = 3.0
    prefetch: Annotated[
        int, Meta(ge=1, le=65535, description="Messages in hand before the broker waits for acknowledgements")
    ] = 1000
    enable_events: Annotated[bool, Meta(description="Switch task events on in the workers at each connect")] = False
    exchange: Annotated[Name, Meta(description="Celery's event_exchange")] = "celeryev"
    tls: Annotated[
        dict[str, Any], Meta(description="TLS options for kombu (ca_certs, certfile, keyfile, cert_reqs)")
    ] = field(default_factory=dict)
    transport_options: Annotated[dict[str, Any], Meta(description="kombu's transport options, as they are")] = field(
        default_factory=dict
    )


class Queue(Struct, forbid_unknown_fields=True, frozen=True):
    """The shared event queue on RabbitMQ. A queue that exists keeps its arguments: see docs/operations.md."""

    type: Annotated[QueueType, Meta(description="quorum keeps events over a broker restart; classic does not")] = (
        QueueType.QUORUM
    )
    prefix: Annotated[Name, Meta(description="Celery's event_queue_prefix")] = "celeryev"
    message_ttl: Annotated[Seconds, Meta(description="Seconds an event waits when no instance runs")] = 43200.0
    max_length: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="Messages kept; beyond it the oldest is dropped")
    ] = 1_000_000
    expires: Annotated[Seconds, Meta(description="Seconds after which an unused queue is deleted")] = 86400.0
    delivery_limit: Annotated[
        int,
        Meta(ge=1000, le=1_000_000_000, description="Deliveries of one message (quorum) before it is dropped"),
    ] = 1_000_000


class Store(Struct, forbid_unknown_fields=True, frozen=True):
    """The Redis that all instances share."""

    url: Annotated[
        str, Meta(min_length=1, description="redis://, rediss://, unix:// or sentinel://host,host/service/db")
    ] = "redis://127.0.0.1:6379/0"
    prefix: Annotated[Name, Meta(description="First part of every key")] = "ha-monitor"
    timeout: Annotated[Seconds, Meta(description="Seconds without an answer after which Redis counts as away")] = 3.0
    lease: Annotated[
        float,
        Meta(ge=1, le=300, description="Seconds without a sign of life until others take over an outbox"),
    ] = 5.0
    success_ttl: Annotated[
        TimeToLive, Meta(description="Seconds the record of a succeeded task is kept; not less than queue.message_ttl")
    ] = 86400.0
    failure_ttl: Annotated[
        TimeToLive, Meta(description="Seconds the record of any other task is kept; not less than queue.message_ttl")
    ] = 604800.0
    worker_ttl: Annotated[TimeToLive, Meta(description="Seconds the record of a silent worker is kept")] = 86400.0
    name_wait: Annotated[
        float,
        Meta(ge=0, le=60, description="Seconds an announcement waits for the piece with the task's name"),
    ] = 2.0

    @property
    def tick_every(self) -> float:
        """Seconds between two calls that renew the lease at most, unless the instance is busy with one thing."""
        return self.lease / 5

    @property
    def longest_wait(self) -> float:
        """Seconds that the instance may be busy with one thing. The latest renewal may be a tick old when that begins,
        and one more tick is left for the next one to arrive."""
        return round(self.lease - 2 * self.tick_every, 6)


class Batch(Struct, forbid_unknown_fields=True, frozen=True):
    """When a batch of events is closed and applied."""

    events: Annotated[
        int, Meta(ge=1, le=5000, description="Events that close a batch; those of its last messages may be more")
    ] = 500
    time: Annotated[float, Meta(ge=0, le=5, description="Seconds that close a batch")] = 0.02


class Log(Struct, forbid_unknown_fields=True, frozen=True):
    """What is written to standard output."""

    level: Annotated[LogLevel, Meta(description="Least level that is written")] = LogLevel.INFO
    format: Annotated[LogFormat, Meta(description="json for machines, console for people at a terminal")] = (
        LogFormat.JSON
    )
    arguments: Annotated[bool, Meta(description="Keep and write the tasks' arguments")] = False
    results: Annotated[bool, Meta(description="Keep and write the tasks' results")] = False
    redact: Annotated[
        list[Annotated[str, Meta(min_length=1)]],
        Meta(description="Parts of key names whose values are replaced by ***"),
    ] = field(default_factory=lambda: list(DEFAULT_REDACTED))
    max_value_length: Annotated[
        int, Meta(ge=16, le=65536, description="Characters of an argument list, result or exception")
    ] = 1024


class Handlers(Struct, forbid_unknown_fields=True, frozen=True):
    """The user's own functions."""

    modules: Annotated[
        list[Annotated[str, Meta(min_length=1)]], Meta(description="Python modules with @on functions")
    ] = field(default_factory=list)
    attempts: Annotated[int, Meta(ge=1, le=100, description="Calls of a failing handler before the dead letter")] = 5
    backoff: Annotated[Seconds, Meta(description="Seconds before the first retry; doubles each time")] = 1.0
    dead_letters: Annotated[int, Meta(ge=1, le=1_000_000, description="Dead letters kept in Redis")] = 1000


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
    username: Annotated[str, Meta(description="User name that a client must give; empty for none")] = ""
    password: Annotated[str, Meta(description="Password that a client must give")] = ""
    tls_certificate: Annotated[str, Meta(description="PEM file with the certificate chain; empty for plain HTTP")] = ""
    tls_key: Annotated[str, Meta(description="PEM file with the certificate's key")] = ""
    stalled_after: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds without progress after which /livez and /readyz say no")
    ] = 30.0


class WorkerLabels(Enum):
    """How the workers are told apart in the metrics."""

    NODENAME = "nodename"
    HOSTNAME = "hostname"
    NONE = "none"


class Metrics(Struct, forbid_unknown_fields=True, frozen=True):
    """What is counted for /metrics; only with http.listen, and the same for all instances. See docs/monitoring.md."""

    worker_labels: Annotated[
        WorkerLabels,
        Meta(description="nodename has labels hostname and worker, hostname only the first, none neither"),
    ] = WorkerLabels.NODENAME
    max_series: Annotated[
        int,
        Meta(ge=100, le=1_000_000, description="Series of tasks an instance keeps; the rest is one labelled overflow"),
    ] = 10_000
    buckets: Annotated[
        list[Annotated[float, Meta(gt=0, le=1e9)]],
        Meta(min_length=1, max_length=50, description="Upper bounds of the histograms in seconds"),
    ] = field(default_factory=lambda: list(DEFAULT_BUCKETS))
    survey_interval: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds between two looks of the leader at the queues of tasks")
    ] = 15.0


class Workers(Struct, forbid_unknown_fields=True, frozen=True):
    """When a Celery worker that sends no heartbeats counts as late and as lost, and whether to look for lost events."""

    late_after: Annotated[
        float, Meta(ge=3, le=86400, description="Seconds of silence after which a worker is late")
    ] = 10.0
    lost_after: Annotated[
        float, Meta(ge=5, le=86400, description="Seconds of silence after which a worker is lost: a line worker-lost")
    ] = 60.0
    count_losses: Annotated[
        bool, Meta(description="Find lost events by the runs that workers count; false if tasks have send_events=False")
    ] = True


class ResultBackend(Struct, forbid_unknown_fields=True, frozen=True):
    """Celery's result backend, which is only read, to find out how a task ended whose last event never came."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(?!rpc:|amqp:)",
            title="a URL of another kind than rpc:// and amqp://",
            description="Celery's result_backend; not rpc://; empty for none",
        ),
    ] = ""
    transport_options: Annotated[
        dict[str, Any], Meta(description="Celery's result_backend_transport_options, as they are")
    ] = field(default_factory=dict)


Limit = Annotated[float, Meta(ge=0, le=86400 * 366)]


class TaskLimits(Struct, forbid_unknown_fields=True, frozen=True):
    """Limits for the tasks of some names; what is not given is as for all others. Seconds; 0 for no limit."""

    sent_after: Limit | None = None
    received_after: Limit | None = None
    started_after: Limit | None = None


class Stuck(Struct, forbid_unknown_fields=True, frozen=True):
    """When a task that goes no further counts as stuck: a line task-stuck. See docs/monitoring.md."""

    enabled: Annotated[bool, Meta(description="Look for tasks that are stuck or whose worker is lost")] = True
    sent_after: Annotated[Limit, Meta(description="Seconds until a task must be received; 0 for no limit")] = 3600.0
    received_after: Annotated[Limit, Meta(description="Seconds until a received task must start; 0 for no limit")] = (
        3600.0
    )
    started_after: Annotated[
        Limit, Meta(description="Seconds a run may take while its usual run time is not known; 0 for no limit")
    ] = 3600.0
    run_time_factor: Annotated[
        float,
        Meta(ge=0, le=10_000, description="How many times its usual run time a run may take; 0 for started_after"),
    ] = 10.0
    tasks: Annotated[
        dict[str, TaskLimits],
        Meta(description='Limits by task name, the first that fits: {"reports.*" = {started_after = 14400}}'),
    ] = field(default_factory=dict)


class Config(Struct, forbid_unknown_fields=True, frozen=True):
    """The whole configuration of one instance."""

    node_id: Annotated[Name, Meta(description="Shared by the instances; the queue is <prefix>.<node_id>")] = (
        "ha-monitor"
    )
    broker: Broker = field(default_factory=Broker)
    queue: Queue = field(default_factory=Queue)
    store: Store = field(default_factory=Store)
    batch: Batch = field(default_factory=Batch)
    log: Log = field(default_factory=Log)
    handlers: Handlers = field(default_factory=Handlers)
    http: Http = field(default_factory=Http)
    metrics: Metrics = field(default_factory=Metrics)
    workers: Workers = field(default_factory=Workers)
    stuck: Stuck = field(default_factory=Stuck)
    result_backend: ResultBackend = field(default_factory=ResultBackend)

    @property
    def queue_name(self) -> str:
        """Name of the shared queue, as Celery's receiver would build it."""
        return f"{self.queue.prefix}.{self.node_id}"
