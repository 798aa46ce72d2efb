"""The engine: one asyncio loop that claims tasks, runs handlers and commits what they intend."""

from pgprog.engine.pulse import Pulse, Sign, Status, sum_of
from pgprog.engine.upkeep import DEFAULT_ROLES, Role, Upkeep
from pgprog.engine.worker import Worker

__all__ = ["DEFAULT_ROLES", "Pulse", "Role", "Sign", "Status", "Upkeep", "Worker", "sum_of"]
