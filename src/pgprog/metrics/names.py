"""Every metric: its name, its labels, what it says, and how several workers' figures make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["histogram", "counter", "gauge"]
# "sum": each worker has its part.  "most": all speak of the same thing, and the worst counts.
Together = Literal["sum", "most"]

# The upper bounds of the buckets, in seconds.
BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)


class Definition(NamedTuple):
    """What a metric is; *help_* says what a bad value means."""

    kind: Kind
    labels: tuple[str, ...]
    help_: str
    together: Together = "sum"


def _histogram(help_: str, *labels: str) -> Definition:
    return Definition("histogram", labels, help_)


def _counter(help_: str, *labels: str) -> Definition:
    return Definition("counter", labels, help_)


def _gauge(help_: str, *labels: str, together: Together = "sum") -> Definition:
    return Definition("gauge", labels, help_, together)


METRICS: Final[Mapping[str, Definition]] = {
    # ---- What a worker does.
    "pgprog_calls_scanning_duration_seconds": _histogram(
        "Claims, for each namespace of which one brought tasks that are no timers, or nothing;"
        " long where PostgreSQL is slow or its plans are bad.",
        "namespace",
    ),
    "pgprog_timers_scanning_duration_seconds": _histogram(
        "Claims, for each namespace of which one brought timers, or nothing.", "namespace"
    ),
    "pgprog_zombie_collection_duration_seconds": _histogram(
        "Ends of dead workers, and looks for tasks that no worker has."
    ),
    "pgprog_request_preparing_duration_seconds": _histogram(
        "From the sending of a request to its commit, for each request of a batch.",
        "namespace",
        "type",
    ),
    "pgprog_task_processing_duration_seconds": _histogram(
        "Runs of handlers; near step_timeout they are cut.", "namespace", "type"
    ),
    "pgprog_task_completion_duration_seconds": _histogram(
        "From the sending of the end of a step to its commit, for each step of a batch.",
        "namespace",
        "outcome",
    ),
    "pgprog_process_removing_duration_seconds": _histogram(
        "Removals of processes, by steps and by clients.", "namespace"
    ),
    "pgprog_notification_duration_seconds": _histogram(
        "Hints to other programs that tasks are due or have ended; while they are long or fail,"
        " polling finds everything, later."
    ),
    "pgprog_task_wait_seconds": _histogram(
        "From the time a task was due to the start of its handler; grows when there are too few"
        " workers or places.",
        "namespace",
        "type",
    ),
    "pgprog_timer_lateness_seconds": _histogram(
        "From the time a timer was set for to the start of its handler.", "namespace"
    ),
    "pgprog_tasks_total": _counter(
        "Tasks that ended here: finished, rejected or error; of the last each wants a look.",
        "namespace",
        "type",
        "outcome",
    ),
    "pgprog_retries_total": _counter(
        "Attempts that failed and are followed by another.", "namespace", "type"
    ),
    "pgprog_zombies_total": _counter("Running tasks that were taken from dead workers."),
    "pgprog_settings_rollbacks_total": _counter(
        "Changes of settings that were taken back since tasks failed; each wants a look."
    ),
    "pgprog_claims_lost_total": _counter(
        "Steps that were given up: taken away, or their lease could not be renewed.", "namespace"
    ),
    "pgprog_worker_falls_total": _counter("Workers whose program ended under its supervisor."),
    "pgprog_steps_busy": _gauge("Handlers that run now.", "namespace"),
    "pgprog_settings_differ": _gauge(
        "1 while a worker obeys other settings, those of the database, than its file and code say;"
        " `pgprog config show --differences` names them.",
        "namespace",
        together="most",
    ),
    # ---- What the database holds: the same whichever worker is asked.
    "pgprog_database_up": _gauge(
        "1 while PostgreSQL answers; 0 where it does not or its figures cannot be read: they are"
        " left out.",
        together="most",
    ),
    "pgprog_queue_tasks": _gauge(
        "Open tasks: waiting, blocked behind one of their process, or running.",
        "namespace",
        "status",
        together="most",
    ),
    "pgprog_oldest_due_age_seconds": _gauge(
        "How long the oldest task or timer that could start has been due, 0 when none is.",
        "namespace",
        together="most",
    ),
    "pgprog_processes_in_error": _gauge(
        "Processes that wait for a repair.", "namespace", together="most"
    ),
    "pgprog_workers": _gauge(
        "Workers whose lease runs; 0 where nobody serves the namespace.",
        "namespace",
        together="most",
    ),
    "pgprog_namespace_paused": _gauge("1 while no task may start.", "namespace", together="most"),
    # ---- Reads from memory.
    "pgprog_cache_requests_total": _counter(
        "Reads of cached namespaces: hit (from memory), wait (from memory, after the stream had"
        " told more), miss (from PostgreSQL), bypass (not from memory: cold, or asked so).",
        "namespace",
        "result",
    ),
    "pgprog_cache_bytes": _gauge("What the cache holds.", "namespace"),
    "pgprog_cache_entries": _gauge("How many processes the cache holds.", "namespace"),
    "pgprog_reader_up": _gauge(
        "1 while the shared reader that a client was told of can be asked; it reads PostgreSQL"
        " otherwise."
    ),
    "pgprog_reader_clients": _gauge("Connections of programs to this shared reader."),
    "pgprog_replication_reconnects_total": _counter("Streams that were opened after another."),
    "pgprog_replication_lag_seconds": _gauge(
        "Everything that was committed so long ago is known here; grows while the stream is lost.",
        together="most",
    ),
    "pgprog_replication_lag_bytes": _gauge(
        "How much of the log, as of the last look, the stream had not told; none while it is lost.",
        together="most",
    ),
    # ---- Connections.
    "pgprog_pool_max": _gauge("How many connections a pool may hold.", "pool"),
    "pgprog_pool_size": _gauge("How many connections a pool holds.", "pool"),
    "pgprog_pool_available": _gauge("How many of these are free.", "pool"),
    "pgprog_pool_waiting": _gauge("Who waits for a free connection.", "pool"),
    "pgprog_pool_timeouts_total": _counter(
        "Those who waited in vain, and were told Overloaded.", "pool"
    ),
}
