"""A queue in which namespaces take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Gives one item of each namespace in turn, those of one in the order in which they came."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._count

    def add(self, namespace: str, item: T) -> None:
        """Put an item behind those of its namespace."""
        self._queues.setdefault(namespace, deque()).append(item)
        self._count += 1

    def take(self) -> T:
        """Return the next item; there must be one."""
        namespace, queue = self._queues.popitem(last=False)
        item = queue.popleft()
        if queue:
            self._queues[namespace] = queue
        self._count -= 1
        return item
