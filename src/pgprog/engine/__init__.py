"""The engine: one asyncio loop that claims tasks, runs handlers and commits what they intend."""

from pgprog.engine.upkeep import Role, Upkeep
from pgprog.engine.vitals import Sign, Status, Vitals, sum_of
from pgprog.engine.worker import Worker

__all__ = ["Role", "Sign", "Status", "Upkeep", "Vitals", "Worker", "sum_of"]
