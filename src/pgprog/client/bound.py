"""Clients bound to a connection of the application: they submit, and never wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgprog.client.requests import asked, raw_request
from pgprog.errors import InvalidArgument
from pgprog.model import TaskId
from pgprog.store.bound import is_async, submit_async_on, submit_on
from pgprog.tracing.spans import requesting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Unpack

    from pgprog.client.requests import Options
    from pgprog.model import Request
    from pgprog.namespace import Namespace
    from pgprog.store.bound import AsyncConnection, BlockingConnection

    NamespaceOf = Callable[[str], Namespace[Any] | None]


class Bound:
    """Submits inside the transaction of a blocking connection; waiting would be for oneself."""

    def __init__(self, connection: BlockingConnection, namespace_of: NamespaceOf) -> None:
        self._connection = connection
        self._namespace_of = namespace_of

    def submit(
        self,
        type: str,  # noqa: A002 - the word of the specification
        namespace: str | Namespace[Any],
        process_id: str,
        args: object = None,
        **options: Unpack[Options],
    ) -> TaskId:
        """Queue a request and return the id of its task, whose end another client waits for.

        Raises:
            PgprogError: It was refused; the transaction has failed, as after any error of SQL.
            psycopg.Error: The transaction cannot go on: a serialization failure, a lock time-out.
        """
        request = _request(type, namespace, process_id, args, options)
        with requesting(request) as span:
            raw = raw_request(request, namespace=self._namespace_of(request.namespace))
            task_id = TaskId(submit_on(self._connection, raw))
            span.sent(task_id)
        return task_id


class AsyncBound:
    """Submits inside the transaction of an asynchronous connection."""

    def __init__(self, connection: AsyncConnection, namespace_of: NamespaceOf) -> None:
        self._connection = connection
        self._namespace_of = namespace_of

    async def submit(
        self,
        type: str,  # noqa: A002 - the word of the specification
        namespace: str | Namespace[Any],
        process_id: str,
        args: object = None,
        **options: Unpack[Options],
    ) -> TaskId:
        """Queue a request and return the id of its task, as `Bound.submit` does."""
        request = _request(type, namespace, process_id, args, options)
        with requesting(request) as span:
            raw = raw_request(request, namespace=self._namespace_of(request.namespace))
            task_id = TaskId(await submit_async_on(self._connection, raw))
            span.sent(task_id)
        return task_id


def _no_namespace(name: str) -> None:
    """Know no handlers, as a mere client."""
    del name


def bound_to(
    connection: BlockingConnection | AsyncConnection, *, namespace_of: NamespaceOf = _no_namespace
) -> Bound | AsyncBound:
    """Return the bound client of the connection's colour.

    Raises:
        TypeError: It is no connection of psycopg.
    """
    if is_async(connection):
        return AsyncBound(connection, namespace_of)
    return Bound(connection, namespace_of)


def _request(
    type_: str,
    namespace: str | Namespace[Any],
    process_id: str,
    args: object,
    options: Mapping[str, Any],
) -> Request:
    if "timeout" in options:
        msg = "timeout: a bound client does not wait"
        raise InvalidArgument(msg, hint="wait with another client after the commit")
    return asked(type_, namespace, process_id, (args,), options).request
