"""Clients and engines are open once at a time, and say so where they are not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from pgprog.errors import StoreUnavailable


class Opening(contextlib.AsyncExitStack):
    """What is to be closed behind a client that is open."""

    _is_open = False

    def begin(self) -> None:
        """Note that the client is being opened.

        Raises:
            RuntimeError: It is open.
        """
        if self._is_open:
            msg = "a client or engine that is open was opened once more"
            raise RuntimeError(msg)
        self._is_open = True
        self._turn = asyncio.Lock()

    async def aclose(self) -> None:
        """Close all, as the parent does; then it may be opened again.

        Who closes it, too, waits for that: else he would close the next part beside the first.
        """
        if not self._is_open:
            return
        async with self._turn:
            try:
                await super().aclose()
            finally:
                self._is_open = False


def not_open() -> Any:  # noqa: ANN401 - it stands for what is there later, of any type
    """Return what stands in a class for an attribute that its objects have once they are open."""
    return _NotOpen()


class _NotOpen:
    def __get__(self, client: object, _owner: type) -> _NotOpen:
        if client is None:
            return self
        msg = "the client is not open"
        raise StoreUnavailable(msg, hint="open it by `async with`, or by `with`")
