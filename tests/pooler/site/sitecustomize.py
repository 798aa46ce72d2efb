"""Move every Python program that finds this on its path behind the pooler of the tests.

As an application would be moved: *dsn* leads through the pooler, and what it was is *direct_dsn*.
It is changed where pgprog takes it from applications, for each DSN of the tests' server.
"""

from __future__ import annotations

import functools
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SERVER: Final = "PGPROG_TEST_DSN"
POOLER: Final = "PGPROG_TEST_POOLER"  # the directory of its socket; its port is the usual one
_PORT = 6432
_TAKERS = {
    "pgprog.config": "Config",
    "pgprog.client.async_client": "AsyncClient",
    "pgprog.cli.asking": "Database",
}


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _TAKERS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Changing(spec.loader, _TAKERS[fullname])
        return spec


class _Changing(Loader):
    def __init__(self, loader: Loader, name: str) -> None:
        self._loader = loader
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        kind = getattr(module, self._name)
        kind.__init__ = _through_pooler(kind.__init__)


def _through_pooler(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def changed(self: object, *dsns: str, **values: Any) -> None:
        dsn = dsns[0] if dsns else values.get("dsn", "")
        if values.get("direct_dsn") in {None, "", dsn} and (pooled := _pooled(dsn)):
            values = {**values, "direct_dsn": dsn}
            if not dsns:
                values["dsn"] = pooled
            dsns = (pooled,) if dsns else ()
        init(self, *dsns, **values)

    return changed


def _pooled(dsn: str) -> str | None:
    """Return the way through the pooler, None for other servers and what is no DSN."""
    import psycopg  # noqa: PLC0415 - not every program that starts needs it
    from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415

    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        return None
    server = conninfo_to_dict(os.environ[SERVER])
    if not dsn or (given.get("host"), given.get("port")) != (server["host"], server.get("port")):
        return None
    return make_conninfo(dsn, host=os.environ[POOLER], port=_PORT)


sys.meta_path.insert(0, _Finder())
