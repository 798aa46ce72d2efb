"""Put whatever the tests give to pgprog behind pgbouncer; `pytest -p tests.pooler.plugin`.

The tests' own sessions stay direct: they hold locks and look about, as a person with psql does.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.pooler.site import sitecustomize as pooled  # before anything of pgprog

if TYPE_CHECKING:
    from tests.pooler.bouncer import Bouncer

_SITE = Path(__file__).parent / "site"
_bouncer: Bouncer | None = None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the pooler after the server; programs that tests start find it, too."""
    global _bouncer  # noqa: PLW0603 - one a run
    from tests.pooler.bouncer import Bouncer  # noqa: PLC0415 - imports pgprog

    if config.option.collectonly:
        return
    if shutil.which("pgbouncer") is None:
        raise pytest.UsageError("there is no pgbouncer: apt-get install pgbouncer")
    _bouncer = bouncer = Bouncer(os.environ[pooled.SERVER]).__enter__()
    os.environ[pooled.POOLER] = str(bouncer.place)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(_SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    config.add_cleanup(bouncer.__exit__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, aloud, what cannot be behind a pooler."""
    for item in items:
        if (mark := item.get_closest_marker("direct")) is not None:
            item.add_marker(pytest.mark.skip(reason=f"needs a direct connection: {mark.args[0]}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how much went through the pooler."""
    if _bouncer is not None:
        terminalreporter.write_line(
            f"{_bouncer.transactions()} transactions went through pgbouncer"
        )
