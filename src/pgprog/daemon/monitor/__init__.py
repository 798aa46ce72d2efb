"""Health and metrics over HTTP, from a thread of its own: a loop that hangs is told, not shared."""

from pgprog.daemon.monitor.fleet import Fleet
from pgprog.daemon.monitor.monitor import monitored, monitoring

__all__ = ["Fleet", "monitored", "monitoring"]
