"""The thread from which a daemon answers those who ask how it is."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.client.loop_thread import LoopThread
from pgprog.config.units import parse_address
from pgprog.daemon.monitor.line import Near
from pgprog.daemon.monitor.pages import Pages
from pgprog.daemon.monitor.server import Server
from pgprog.daemon.monitor.state import state_of
from pgprog.engine import Role
from pgprog.errors import ConfigError
from pgprog.store.gauges import Gauges

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterator, Sequence

    from pgprog.config import Config
    from pgprog.daemon.monitor.pages import Workers
    from pgprog.daemon.monitor.state import WorkerState
    from pgprog.metrics import Metrics, Sample

log = logs.get(__name__)


class Monitor:
    """One worker, which is all there is to show."""

    places = 1

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def states(self) -> Sequence[WorkerState]:
        """Return how it is."""
        return [state_of(self._metrics)]

    def others(self) -> Sequence[Sample]:
        """Return nothing: it has counted everything itself."""
        return ()


@contextmanager
def monitoring(config: Config, workers: Workers, *, thread: LoopThread) -> Iterator[None]:
    """Answer over HTTP in *thread* while the block lasts, where the configuration says so.

    Raises:
        ConfigError: Nothing can listen there.
    """
    if config.worker.http is None:
        yield
        return
    host, port = parse_address(config.worker.http)
    gauges = Gauges(config.dsn, name="pgprog worker")
    server = Server(Pages(workers, gauges).answer)
    try:
        where = thread.run(server.open(host, port))
    except OSError as e:
        msg = f"worker.http: nothing can listen on {config.worker.http}: {e.strerror or e}"
        raise ConfigError(msg) from e
    log.info("http_listening", addresses=where)
    try:
        yield
    finally:
        thread.run(server.close())
        thread.run(gauges.close())


@contextmanager
def monitored(
    config: Config,
    metrics: Metrics,
    *,
    roles: Collection[Role],
    view: socket.socket | None,
) -> Iterator[None]:
    """Show a worker while the block lasts: to its supervisor by *view*, or over HTTP, or not."""
    if config.worker.http is None or Role.HTTP not in roles:
        yield
        return
    thread = LoopThread()
    try:
        if view is None:
            with monitoring(config, Monitor(metrics), thread=thread):
                yield
            return
        near = Near(view, metrics)
        thread.run(near.open())
        try:
            yield
        finally:
            thread.run(near.close())
    finally:
        thread.close()
