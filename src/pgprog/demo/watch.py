"""Following the files below a directory: new and changed ones are indexed, deleted ones removed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pgprog.demo.discover import files_below, is_hidden
from pgprog.demo.ends import fetch_ends, queue
from pgprog.demo.found import Found, look_at
from pgprog.demo.handlers import documents, removals
from pgprog.demo.run import init_of
from pgprog.errors import ConfigError
from pgprog.model import Request, TaskType
from pgprog.store.faults import translated
from pgprog.store.pool import connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgprog.client import Engine
    from pgprog.demo.ends import End
    from pgprog.store.bound import AsyncConnection

# A set of changes is complete when nothing came for 25 ms, and after 200 ms in any case.
_STEP_MS = 25
_DEBOUNCE_MS = 200
_LOOK_SECONDS = 0.05
_IDLE_LOOKS = 20
_BATCH = 200

_INDEXED = """
select t.path, t.document
from demo.texts as t
where starts_with(t.path, %(root)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done about a file: `indexed`, `failed`, `removed` or `passed by`.

    *seconds* counts from when its change was noticed.
    """

    path: str
    action: str
    detail: str | None
    seconds: float


class Audience(Protocol):
    """Who is told of each file."""

    def tell(self, change: Change) -> None:
        """Take the news of one file."""
        ...


async def follow(
    engine: Engine,
    dsn: str,
    root: Path,
    *,
    found: Iterable[Found],
    stop: asyncio.Event,
    audience: Audience,
) -> None:
    """Follow the files below *root*, of which *found* are known, until *stop* is set.

    *root* is resolved, as the paths of what was found are.

    What changed between the finding and the watching is made up for first, and so are files that
    were deleted while nobody watched.

    Raises:
        ConfigError: The system does not let us watch so many directories.
    """
    async with connect(dsn, name="pgprog demo") as connection:
        known = await _indexed_below(root, connection=connection)
        known.update({each.path: (each.process_id, each.changed_ns) for each in found})
        follower = _Follower(engine, connection, root=root, known=known, audience=audience)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(follower.watch(stop))
                tasks.create_task(follower.report(stop))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group


@dataclass(frozen=True, slots=True)
class _News:
    """What is true of some paths: the versions that are there, and the paths that are not."""

    found: Sequence[Found]
    gone: Sequence[Path]


@dataclass(slots=True)
class _Follower:
    """What is known of the files, and which processes have not ended yet."""

    engine: Engine
    connection: AsyncConnection
    root: Path = field(kw_only=True)
    known: dict[str, tuple[str, int]] = field(kw_only=True)
    audience: Audience = field(kw_only=True)
    pending: dict[str, dict[str, tuple[str, float]]] = field(
        default_factory=lambda: {documents.name: {}, removals.name: {}}
    )

    async def watch(self, stop: asyncio.Event) -> None:
        """Queue what has to be done about each change."""
        from watchfiles import awatch  # noqa: PLC0415 - only who watches needs it

        changes = awatch(
            self.root,
            watch_filter=None,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            stop_event=stop,
            yield_on_timeout=True,
            rust_timeout=500,
        )
        # The first set is awaited beside the catching up, so that nothing falls between them.
        first = asyncio.ensure_future(anext(changes, None))
        await asyncio.sleep(0)
        await self.catch_up()
        try:
            some = await first
        except OSError as e:
            msg = f"cannot watch {self.root}: {e}"
            raise ConfigError(msg, hint="raise fs.inotify.max_user_watches") from e
        while some is not None:
            await self.take({path for _, path in some})
            some = await anext(changes, None)

    async def catch_up(self) -> None:
        """Do what has to be done about changes that nobody saw."""
        await self._take_news(
            await asyncio.to_thread(_news_since, self.root, {**self.known}),
        )

    async def take(self, paths: Iterable[str]) -> None:
        """Do what has to be done about these paths, whatever happened to them."""
        if paths:
            await self._take_news(await asyncio.to_thread(_news_of, paths, root=self.root))

    async def report(self, stop: asyncio.Event) -> None:
        """Tell the audience of each end, of those before *stop* too.

        Without any it looks every second all the same: a server that is gone is to be noticed.
        """
        for number in itertools.count():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await stop.wait()
            for namespace, pending in self.pending.items():
                if pending or number % _IDLE_LOOKS == 0:
                    ids = [*pending][:_BATCH]
                    self._tell(namespace, await fetch_ends(self.connection, namespace, ids))
            if stop.is_set():
                return

    async def _take_news(self, news: _News) -> None:
        noticed_at = time.monotonic()
        fresh = [each for each in news.found if self._version_of(each.path) != each.process_id]
        self.known.update({each.path: (each.process_id, each.changed_ns) for each in fresh})
        removed = [(path, self.known.pop(path)[0]) for path in self._known_at(news.gone)]
        requests = [*map(init_of, fresh), *(_removal_of(*each) for each in removed)]
        paths = [*(each.path for each in fresh), *(path for path, _ in removed)]
        for start in range(0, len(requests), _BATCH):
            batch = slice(start, start + _BATCH)
            await queue(self.engine, requests[batch])
            # Not before: a process that is not there yet looks like one that has gone.
            for request, path in zip(requests[batch], paths[batch], strict=True):
                self.pending[request.namespace][request.process_id] = (path, noticed_at)

    def _version_of(self, path: str) -> str | None:
        process_id, _ = self.known.get(path, (None, 0))
        return process_id

    def _known_at(self, paths: Iterable[Path]) -> list[str]:
        """Return the known files at or below paths that are gone."""
        gone = {*map(str, paths)}
        return [
            path
            for path in (self.known if gone else ())
            if path in gone or any(str(above) in gone for above in Path(path).parents)
        ]

    def _tell(self, namespace: str, ends: Iterable[End]) -> None:
        for end in ends:
            path, noticed_at = self.pending[namespace].pop(end.process_id)
            change = Change(
                path=path,
                action=_action(namespace, end),
                detail=end.detail,
                seconds=time.monotonic() - noticed_at,
            )
            self.audience.tell(change)


def _removal_of(path: str, process_id: str) -> Request:
    return Request(TaskType.INIT, removals.name, process_id, {"path": path})


def _action(namespace: str, end: End) -> str:
    if end.is_failure:
        return "failed"
    if end.status == "gone":
        return "passed by"
    return "removed" if namespace == removals.name else "indexed"


def _news_of(paths: Iterable[str], *, root: Path) -> _News:
    """Look at paths that something happened to; hidden ones and links are passed by."""
    found, gone = [], []
    for path in map(Path, sorted(paths)):
        if any(is_hidden(part) for part in path.relative_to(root).parts) or path.is_symlink():
            continue
        if not path.exists():
            gone.append(path)
            continue
        below = (look_at(each.path, root=root) for each in files_below(path))
        found += [each for each in below if each is not None]
    return _News(found, gone)


def _news_since(root: Path, known: Mapping[str, tuple[str, int]]) -> _News:
    """Look at the files below *root* that are not as they are known, by their time of change."""
    there = {str(each.path): each.path for each in files_below(root)}
    changed = [
        path for path in there if path not in known or _changed_ns(there[path]) != known[path][1]
    ]
    news = _news_of(changed, root=root)
    gone = [Path(path) for path in known if path not in there and not Path(path).exists()]
    return _News(news.found, [*news.gone, *gone])


def _changed_ns(path: Path) -> int | None:
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return None


async def _indexed_below(root: Path, *, connection: AsyncConnection) -> dict[str, tuple[str, int]]:
    """Return what earlier runs have indexed below *root*, with no time of change."""
    with translated():
        rows = await connection.execute(_INDEXED, {"root": f"{root}/"})
        return {path: (document, 0) for path, document in await rows.fetchall()}
