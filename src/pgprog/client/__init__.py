"""How applications ask processes: clients, and the embedded engine."""

from pgprog.client.async_client import AsyncClient
from pgprog.client.changes import Changed, Reached
from pgprog.client.engine import Engine
from pgprog.client.sync_client import Client, Task
from pgprog.client.tasks import AsyncTask
from pgprog.client.watching import Seen

__all__ = ["AsyncClient", "AsyncTask", "Changed", "Client", "Engine", "Reached", "Seen", "Task"]
