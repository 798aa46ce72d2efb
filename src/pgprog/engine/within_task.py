"""Coroutines that run within a task that others have used, as if they had one of their own."""

from __future__ import annotations

import contextvars
import types
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")


@types.coroutine
def within_task(
    coroutine: Coroutine[Any, Any, T], *, on_wait: Callable[[], None]
) -> Generator[Any, Any, T]:
    """Await *coroutine* in a context of its own; *on_wait* is called whenever it has to wait.

    It leaves no context variables behind.  A task for each would cost more than the rest of a step
    that never waits.
    """
    context = contextvars.copy_context()
    resume: Callable[[Any], Any] = coroutine.send
    value: object = None
    while True:
        try:
            awaited = context.run(resume, value)
        except StopIteration as e:
            result: T = e.value
            return result
        on_wait()
        try:
            value = yield awaited
            resume = coroutine.send
        except BaseException as e:  # noqa: BLE001 - it is thrown into the coroutine
            value = e
            resume = coroutine.throw
