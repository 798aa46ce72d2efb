"""Several workers of one configuration under a supervisor."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from pgprog.client.loop_thread import LoopThread
from pgprog.daemon.child import Child
from pgprog.daemon.monitor import Fleet, monitoring
from pgprog.daemon.notify import Notifier
from pgprog.daemon.reports import Reports
from pgprog.daemon.supervisor import Supervisor
from pgprog.engine import DEFAULT_ROLES, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pgprog.config import Config


def supervise(
    config: Config,
    *,
    command: Sequence[str],
    read: Callable[[], Config],
    roles: Collection[Role] = DEFAULT_ROLES,
) -> int:
    """Keep `worker.processes` workers until told to stop; return the exit code.

    *command* starts one, with the number of a `Link` behind it; *read* reads *config* again.  For
    the main thread, and a program without an event loop: it takes the signals.
    """
    fleet = Fleet(config.worker.processes)
    supervisor = Supervisor(
        start=partial(Child, command),
        config=config,
        read=read,
        reports=Reports(config.dsn, namespaces=[*config.namespaces], metrics=fleet.metrics),
        fleet=fleet,
        manager=Notifier(os.environ),
    )
    if config.worker.http is None or Role.HTTP not in roles:
        return supervisor.run()
    thread = LoopThread()
    try:
        with monitoring(config, fleet, thread=thread):
            fleet.open(thread)
            return supervisor.run()
    finally:
        thread.close()
