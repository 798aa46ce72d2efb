"""Follow all processes of a namespace, or those in one status."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pgprog.client.changes import Position
from pgprog.client.following import follow_all
from pgprog.client.reads import checked_names
from pgprog.client.watching import AsyncWatching
from pgprog.errors import InvalidArgument, StoreUnavailable
from pgprog.model import ProcessStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pgprog.client.changes import Changed, Reached
    from pgprog.namespace import Namespace
    from pgprog.replication.shared import Feed


class AsyncFiltered(AsyncWatching):
    """The reads of a client that follow many processes."""

    _feed: Feed

    async def watch_all(
        self,
        namespace: str | Namespace[Any],
        *,
        status: str | None = None,
        position: str | None = None,
    ) -> AsyncGenerator[Changed | Reached, None]:
        """Yield the processes of a namespace, those in *status* only, whenever they have changed.

        **The newest version of each process is seen**; of several changes in a moment perhaps the
        last only.  It begins with all there are.  Versions of one process grow; of two, the stream
        tells in the order of commits, a look in the order of ids.  `left`, for another status, and
        `removed` are told of processes that this call has yielded before, which it remembers: some
        400 bytes for each.

        `Reached` is a place to go on from: give its *position*.  A version is none, since versions
        commit out of order.  Whoever goes on misses no commit, however late, is told again of what
        was written beside the last ones, and is not told what left or was removed meanwhile.  In a
        database that was restored, recovered or promoted since, all are told again, by a warning.

        With the cache or ``wakeups="stream"`` changes are told as they are committed; otherwise,
        and while there is no stream, it looks at all processes again, each second or for a tenth of
        the time.  It reads the view pgprog.processes, which takes the rights of a viewer.

        Raises:
            InvalidArgument: There is no such status, or no such position.
            StoreUnavailable: The database cannot be reached at first, or the client is closed.
        """
        name, _ = checked_names(namespace, "-")
        if status is not None and status not in {*ProcessStatus}:
            msg = f"no status {status}: there are {', '.join(ProcessStatus)}"
            raise InvalidArgument(msg)
        following = follow_all(
            self._store,
            self._feed if self._feed.is_wanted else None,
            name,
            status=status,
            position=None if position is None else Position.parse(position),
            wakes=self._wakes,
        )
        async with contextlib.aclosing(following):
            async for found in following:
                yield found
        msg = "the client is closed"
        raise StoreUnavailable(msg)
