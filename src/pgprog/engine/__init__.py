"""The engine: one asyncio loop that claims tasks, runs handlers and commits what they intend."""

from pgprog.engine.worker import Retention, Worker

__all__ = ["Retention", "Worker"]
