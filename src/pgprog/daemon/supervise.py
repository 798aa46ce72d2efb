"""Several workers of one configuration under a supervisor."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from pgprog.daemon.child import Child
from pgprog.daemon.notify import Notifier
from pgprog.daemon.reports import Reports
from pgprog.daemon.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgprog.config import Config


def supervise(config: Config, *, command: Sequence[str], read: Callable[[], Config]) -> int:
    """Keep `worker.processes` workers until told to stop; return the exit code.

    *command* starts one, with the number of a `Link` behind it; *read* reads *config* again.  For
    the main thread, and a program without an event loop: it takes the signals.
    """
    supervisor = Supervisor(
        start=partial(Child, command),
        config=config,
        read=read,
        reports=Reports(config.dsn, namespaces=[*config.namespaces]),
        manager=Notifier(os.environ),
    )
    return supervisor.run()
