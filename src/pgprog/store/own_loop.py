"""The event loop that connections, and those who wait for them, belong to."""

from __future__ import annotations

import asyncio


def check_loop(own: asyncio.AbstractEventLoop | None) -> None:
    """Check that *own* is the loop that runs here; None is that of what is not open.

    What another waits for is never told to it, and a forked child would read the answers of its
    parent.

    Raises:
        RuntimeError: It is another; nothing was done.
    """
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:  # a forked child goes on in the middle of its parent's loop
        here = None
    if own is not None and here is not own:
        msg = "a client or engine was used outside the event loop in which it was opened"
        raise RuntimeError(msg)
