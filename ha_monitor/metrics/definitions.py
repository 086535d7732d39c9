"""Every metric, defined once: name, kind, help and labels. A test compares `docs/monitoring.md` with it.

Names and labels are those of celery-exporter if it has the metric, so that its dashboards and alerts keep working.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ha_monitor.events.catalogue import TASK_EVENTS, Code


class Kind(StrEnum):
    """Prometheus' metric type."""

    COUNTER = "counter"
    """Only grows; `sum()` over the instances is exact."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric."""

    name: str
    """As Prometheus shows it; with `_total` for a counter. OpenMetrics leaves that out, so no other metric may have the
    name without it."""
    kind: Kind
    meaning: str
    """With the unit, if there is one."""
    labels: tuple[str, ...] = ()
    leader: bool = False
    """Exported only by the leader, because it describes the whole fleet."""


NODE_ID = "node_id"
"""A label of every series."""
WORKER = ("hostname", "worker")
"""The part of a nodename after the @, and the nodename; `metrics.worker_labels` may leave out the second or both."""
TASK = ("name", *WORKER, "queue_name")
NAME_LABELS = ("name", "queue_name")
UNKNOWN = "unknown"
OVERFLOW = "overflow"

BY_CODE: dict[Code, Metric] = {
    row.code: Metric(
        f"celery_task_{row.counter.word}_total", Kind.COUNTER, row.counter.meaning, (*TASK, *row.counter.labels)
    )
    for row in TASK_EVENTS
    if row.counter is not None
}
RUNTIME = Metric(
    "celery_task_runtime",
    Kind.HISTOGRAM,
    "Run time of successful runs in seconds, as reported by the worker",
    NAME_LABELS,
)
QUEUE_WAIT = Metric(
    "celery_task_queue_wait_time",
    Kind.HISTOGRAM,
    "Seconds from sending (without task-sent: receiving), or from the eta if that is later, to the start of the run",
    NAME_LABELS,
)
LOST = Metric(
    "ha_monitor_events_lost_total",
    Kind.COUNTER,
    "Events lost: runs that a worker reports in its heartbeats, less its task-started events that arrived",
    WORKER,
)
RECONCILED = Metric(
    "ha_monitor_tasks_reconciled_total",
    Kind.COUNTER,
    "Ends of tasks whose event never arrived, taken from the result backend; also counted as the task's ends",
    ("name",),
)
SKEWED = Metric(
    "ha_monitor_clock_skew_total",
    Kind.COUNTER,
    "Runs that started before they were sent, by the clocks of two hosts; their wait counts as 0, and not at all if "
    "they are a minute apart",
    WORKER,
)
SKEW = Metric(
    "ha_monitor_clock_skew_seconds_total",
    Kind.COUNTER,
    "Sum of these negative waits in seconds; some milliseconds each without skew, since a worker may start before the "
    "producer publishes task-sent",
    WORKER,
)

CONSUMING = Metric("ha_monitor_consuming", Kind.GAUGE, "1 while this instance consumes events")
STORE_UP = Metric("ha_monitor_store_up", Kind.GAUGE, "1 while the store answers this instance")
HTTP_REFUSED = Metric(
    "ha_monitor_http_refused_total",
    Kind.COUNTER,
    "HTTP clients refused: crowded (slow, or one of too many), deadline (30 s exceeded), "
    "malformed (not HTTP), password (a wrong one), too_many_passwords (after too many wrong ones)",
    ("reason",),
)
LEFT_OUT = Metric(
    "ha_monitor_metrics_left_out_total",
    Kind.COUNTER,
    "Series, or groups of them, left out of a scrape because of a corrupt value",
)
BUILD = Metric("ha_monitor_build_info", Kind.GAUGE, "1; versions in the labels", ("version", "python", "celery"))
BATCH_SECONDS = Metric(
    "ha_monitor_batch_seconds",
    Kind.HISTOGRAM,
    "Seconds from sending a batch to the store until it is merged, announced and acknowledged",
)
LAST_EVENT = Metric(
    "ha_monitor_last_event_timestamp_seconds", Kind.GAUGE, "Time of the last merge, seconds since the epoch"
)
SERIES = Metric("ha_monitor_series", Kind.GAUGE, "Series of tasks that this instance exports")
SERIES_LIMIT = Metric("ha_monitor_series_limit", Kind.GAUGE, "Limit of these series (`metrics.max_series`)")
WITHOUT = Metric(
    "ha_monitor_events_without_label_total",
    Kind.COUNTER,
    "Events of tasks that were counted without the worker, beyond three quarters of the limit, or as `overflow` at the "
    "limit (name)",
    ("label",),
)
OWN: dict[str, Metric] = {
    attribute: Metric(f"ha_monitor_{name}", kind, meaning)
    for attribute, name, kind, meaning in (
        ("messages", "messages_total", Kind.COUNTER, "Messages received from the broker"),
        ("events", "events_total", Kind.COUNTER, "Events in these messages"),
        ("new", "events_merged_total", Kind.COUNTER, "Events that this instance merged first"),
        (
            "repeated",
            "events_repeated_total",
            Kind.COUNTER,
            "Duplicate events dropped: an instance had merged them before",
        ),
        ("redelivered", "messages_redelivered_total", Kind.COUNTER, "Messages that the broker redelivered"),
        ("rejected", "events_rejected_total", Kind.COUNTER, "Messages and events that could not be decoded"),
        (
            "set_aside",
            "messages_set_aside_total",
            Kind.COUNTER,
            "Messages that no instance could merge, set aside in the store",
        ),
        (
            "dropped",
            "events_dropped_total",
            Kind.COUNTER,
            "Events dropped from a full buffer while the store was unavailable; only with Redis as the broker",
        ),
        ("batches", "batches_total", Kind.COUNTER, "Batches merged"),
        ("lines", "lines_total", Kind.COUNTER, "Lines written for events"),
        ("handler_failures", "handler_failures_total", Kind.COUNTER, "Calls of handlers that raised"),
        (
            "notifications",
            "notifications_total",
            Kind.COUNTER,
            "Messages about incidents that channels took, and heartbeats",
        ),
        (
            "notification_failures",
            "notification_failures_total",
            Kind.COUNTER,
            "Attempts to deliver a message about incidents, or a heartbeat, that failed",
        ),
        ("dead_letters", "dead_letters_total", Kind.COUNTER, "Handler calls that became dead letters"),
        ("takeovers", "takeovers_total", Kind.COUNTER, "Outboxes of dead instances taken over"),
        ("broker_connects", "broker_connects_total", Kind.COUNTER, "Connections to the broker, the first included"),
        (
            "gaps",
            "broker_gap_seconds_total",
            Kind.COUNTER,
            "Seconds in which this instance may have missed events, since its subscription was broken; only with Redis "
            "as the broker",
        ),
        ("store_connects", "store_connects_total", Kind.COUNTER, "Connections to the store, the first included"),
        ("leases_lost", "leases_lost_total", Kind.COUNTER, "Times this instance lost its lease"),
        (
            "rollbacks",
            "store_went_back_total",
            Kind.COUNTER,
            "Times the store was found to have lost what it had confirmed; counted by the first instance that found it",
        ),
        (
            "store_dropped_keys",
            "store_dropped_keys_total",
            Kind.COUNTER,
            "Keys that the store evicted (`maxmemory-policy`), of any program; counted by the leader",
        ),
        (
            "lag",
            "lag_seconds",
            Kind.GAUGE,
            "Age of the newest event of the last batch when merged; 0 after ten seconds with an empty queue",
        ),
    )
}
"""By the name of the counter in `Stats`; they count from the start of the process."""

LEADER = Metric("ha_monitor_leader", Kind.GAUGE, "1 on the instance that leads", leader=True)
INSTANCES = Metric("ha_monitor_instances", Kind.GAUGE, "Instances with a valid lease", leader=True)
WAITING = Metric(
    "ha_monitor_waiting_tasks",
    Kind.GAUGE,
    "Tasks with announcements or counts that wait for a missing event",
    leader=True,
)
RETRIES = Metric("ha_monitor_handler_retries", Kind.GAUGE, "Handler calls to be retried", leader=True)
DEAD_LETTERS_KEPT = Metric("ha_monitor_dead_letters_kept", Kind.GAUGE, "Dead letters in the store", leader=True)
EVENT_QUEUE = Metric("ha_monitor_queue_length", Kind.GAUGE, "Messages in the shared queue of events", leader=True)
WORKERS = Metric(
    "ha_monitor_workers", Kind.GAUGE, "Workers by state: online, late, lost, offline", ("state",), leader=True
)
SILENT = Metric(
    "ha_monitor_workers_without_task_events",
    Kind.GAUGE,
    "Workers that send heartbeats, run tasks, and send no events of them",
    leader=True,
)
STUCK = Metric("ha_monitor_tasks_stuck", Kind.GAUGE, "Tasks announced as stuck that still are", leader=True)
ORPHANED = Metric("ha_monitor_tasks_orphaned", Kind.GAUGE, "Tasks announced as orphaned that still are", leader=True)
WORKER_UP = Metric(
    "celery_worker_up",
    Kind.GAUGE,
    "1 while the worker sends heartbeats, else 0; for ten minutes after worker-offline",
    WORKER,
    leader=True,
)
WORKER_ACTIVE = Metric(
    "celery_worker_tasks_active", Kind.GAUGE, "Tasks that the worker is running", WORKER, leader=True
)
WORKER_SKEW = Metric(
    "ha_monitor_worker_clock_skew_seconds",
    Kind.GAUGE,
    "Seconds by which the clock of a worker that is up is ahead, negative: behind; 0 unless it is wrong by a minute",
    WORKER,
    leader=True,
)
INCIDENTS = Metric(
    "ha_monitor_incidents", Kind.GAUGE, "Incidents that fire (`ha-monitor problems`)", ("kind", "severity"), leader=True
)
SCHEDULE = ("schedule",)
SCHEDULE_LAST_RUN = Metric(
    "ha_monitor_schedule_last_run_timestamp_seconds",
    Kind.GAUGE,
    "When a schedule last ran, seconds since the epoch (`ha-monitor schedules`)",
    SCHEDULE,
    leader=True,
)
SCHEDULE_NEXT_DUE = Metric(
    "ha_monitor_schedule_next_due_timestamp_seconds",
    Kind.GAUGE,
    "When it is next due, seconds since the epoch",
    SCHEDULE,
    leader=True,
)
SCHEDULE_MISSED = Metric(
    "ha_monitor_schedule_missed_runs",
    Kind.GAUGE,
    "Due times at which it did not run, since it is watched",
    SCHEDULE,
    leader=True,
)
SCHEDULE_STATE = Metric(
    "ha_monitor_schedule_state", Kind.GAUGE, "1 for its current state", (*SCHEDULE, "state"), leader=True
)
TABLE = ("table",)
TABLE_SIZE = Metric("ha_monitor_table_size", Kind.GAUGE, "Entries of a table of the shared record", TABLE, leader=True)
TABLE_LIMIT = Metric("ha_monitor_table_limit", Kind.GAUGE, "Most entries of this table", TABLE, leader=True)
TABLE_TURNED_AWAY = Metric(
    "ha_monitor_table_turned_away",
    Kind.GAUGE,
    "Entries that this table refused because it was full; 0 again after a day without one",
    TABLE,
    leader=True,
)
QUEUE = ("queue_name",)
QUEUE_LENGTH = Metric("celery_queue_length", Kind.GAUGE, "Messages ready in a task queue", QUEUE, leader=True)
CONSUMERS = Metric(
    "celery_active_consumer_count", Kind.GAUGE, "Consumers of a queue, as reported by RabbitMQ", QUEUE, leader=True
)
QUEUE_WORKERS = Metric("celery_active_worker_count", Kind.GAUGE, "Workers that consume a queue", QUEUE, leader=True)
QUEUE_PROCESSES = Metric(
    "celery_active_process_count", Kind.GAUGE, "Processes or threads of those workers", QUEUE, leader=True
)
FLEET = (
    *(LEADER, INSTANCES, WAITING, RETRIES, DEAD_LETTERS_KEPT, EVENT_QUEUE, WORKERS, WORKER_UP, WORKER_ACTIVE),
    *(WORKER_SKEW, SILENT, STUCK, ORPHANED, INCIDENTS, TABLE_SIZE, TABLE_LIMIT, TABLE_TURNED_AWAY),
    *(QUEUE_LENGTH, CONSUMERS, QUEUE_WORKERS, QUEUE_PROCESSES),
    *(SCHEDULE_LAST_RUN, SCHEDULE_NEXT_DUE, SCHEDULE_MISSED, SCHEDULE_STATE),
)
"""Fleet-wide, so exported only by the leader: `sum()` over the instances is the value."""

ALL = (
    *dict.fromkeys(BY_CODE.values()),
    *(RUNTIME, QUEUE_WAIT, LOST, RECONCILED, SKEWED, SKEW, *OWN.values(), LAST_EVENT, SERIES, SERIES_LIMIT),
    *(WITHOUT, BATCH_SECONDS),
    *(CONSUMING, STORE_UP, BUILD, HTTP_REFUSED, LEFT_OUT),
    *FLEET,
)
