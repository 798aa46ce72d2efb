"""Long-lived processes on PostgreSQL alone."""

from pgprog.client import (
    AsyncClient,
    AsyncTask,
    Changed,
    Client,
    Engine,
    Reached,
    Seen,
    Task,
)
from pgprog.errors import (
    CriticalError,
    PermanentError,
    PgprogError,
    Reject,
    StepError,
    TransientError,
)
from pgprog.model import (
    UNCHANGED,
    Event,
    Finish,
    Intent,
    Process,
    Remove,
    Request,
    SetTimer,
    Step,
    UnsetTimer,
)
from pgprog.namespace import Namespace
from pgprog.store.migrate import migrate
from pgprog.tracing import carry, correlation_id, traceparent

__all__ = [
    "UNCHANGED",
    "AsyncClient",
    "AsyncTask",
    "Changed",
    "Client",
    "CriticalError",
    "Engine",
    "Event",
    "Finish",
    "Intent",
    "Namespace",
    "PermanentError",
    "PgprogError",
    "Process",
    "Reached",
    "Reject",
    "Remove",
    "Request",
    "Seen",
    "SetTimer",
    "Step",
    "StepError",
    "Task",
    "TransientError",
    "UnsetTimer",
    "carry",
    "correlation_id",
    "migrate",
    "traceparent",
]
