"""Long-lived processes on PostgreSQL alone."""

from pgprog.model import (
    UNCHANGED,
    Event,
    Finish,
    Intent,
    Process,
    Remove,
    SetTimer,
    Step,
    UnsetTimer,
)
from pgprog.namespace import Namespace
from pgprog.store.migrate import migrate

__all__ = [
    "UNCHANGED",
    "Event",
    "Finish",
    "Intent",
    "Namespace",
    "Process",
    "Remove",
    "SetTimer",
    "Step",
    "UnsetTimer",
    "migrate",
]
