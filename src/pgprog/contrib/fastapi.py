"""A client for the endpoints of FastAPI, answers that come later, and errors as HTTP has them."""

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, FastAPI, Query, Request, WebSocket, params
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse, Response

from pgprog import tracing
from pgprog.client import AsyncClient
from pgprog.codec import encode
from pgprog.errors import (
    CallTimeout,
    IdempotencyConflict,
    InvalidArgument,
    NamespaceNotFound,
    Overloaded,
    PgprogError,
    ProcessExists,
    ProcessFinished,
    ProcessInError,
    ProcessNotFound,
    ProcessNotInError,
    QueueFull,
    Rejected,
    StepFailed,
    StoreUnavailable,
    TaskCancelled,
    TaskNotFound,
)
from pgprog.model import TaskStatus

_LONGEST_WAIT_SECONDS: Final = 60
_OPEN: Final = (TaskStatus.WAITING, TaskStatus.BLOCKED, TaskStatus.RUNNING)
_STATUS: Final[Mapping[type[PgprogError], int]] = MappingProxyType(
    {
        ProcessNotFound: 404,
        NamespaceNotFound: 404,
        TaskNotFound: 404,
        ProcessExists: 409,
        ProcessInError: 409,
        ProcessNotInError: 409,
        ProcessFinished: 409,
        IdempotencyConflict: 409,
        TaskCancelled: 409,
        Rejected: 422,
        InvalidArgument: 422,
        QueueFull: 429,
        Overloaded: 503,
        StoreUnavailable: 503,
    }
)


def lifespan(
    client: AsyncClient,
) -> Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, AsyncClient]]]:
    """Return the lifespan of an application, which opens *client*, or an `Engine`, and closes it.

    An application with a lifespan of its own yields ``{"pgprog": client}``, among other things.
    """

    @contextlib.asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[Mapping[str, AsyncClient]]:
        del app
        async with client:
            yield {"pgprog": client}

    return opened


def get_client(connection: HTTPConnection) -> AsyncClient:
    """Return the client of the application, for ``Depends``: what a parameter of `Pgprog` gets."""
    return cast("AsyncClient", connection.state.pgprog)


async def carry_request(connection: HTTPConnection) -> AsyncIterator[None]:
    """Let what endpoints ask for carry ``traceparent`` and ``x-request-id`` of their request.

    For the `dependencies` of an application, a router or an endpoint; also sync ones carry them.
    Where OpenTelemetry has begun a span for the request, what is asked for goes on with that.
    """
    headers = connection.headers
    is_traced = tracing.is_traced()
    with tracing.carry(
        correlation_id=headers.get("x-request-id"),
        traceparent=None if is_traced else headers.get("traceparent"),
        tracestate=None if is_traced else headers.get("tracestate"),
    ):
        yield


Pgprog = Annotated[AsyncClient, Depends(get_client)]

_router = APIRouter()


@_router.get("/tasks/{task_id}", name="pgprog_task")
async def _read_task(
    task_id: int,
    client: Pgprog,
    wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT_SECONDS)] = 0,
) -> JSONResponse:
    """Return where a task is, after waiting for its end for *wait* seconds at most.

    202 while it has not ended, else 200, whatever its end.
    """
    if wait > 0:
        with contextlib.suppress(CallTimeout, Rejected, StepFailed, TaskCancelled):
            await client.wait(task_id, timeout=wait)
    result = await client.result(task_id)
    return JSONResponse(
        {
            "task_id": task_id,
            "status": result.status,
            "response": result.response,
            "error": result.error,
        },
        status_code=202 if result.status in _OPEN else 200,
    )


def accepted(request: Request, task_id: int) -> JSONResponse:
    """Return 202 with the address under which `install` has it told where the task is."""
    place = str(request.url_for("pgprog_task", task_id=task_id))
    return JSONResponse({"task_id": task_id}, status_code=202, headers={"Location": place})


def install(app: FastAPI, *, dependencies: Sequence[params.Depends] = ()) -> None:
    """Add ``/tasks/{task_id}`` to an application, and answer errors of pgprog by their status.

    Whoever may ask for one task may ask for any: *dependencies* say who may.  What is the fault of
    the caller is 404, 409, 422 or 429, no database 503, a `CallTimeout` 202 with the task, which
    goes on; everything else is an error of the application: 500, without its text.  What a
    WebSocket endpoint raises comes out as it is.
    """
    app.include_router(_router, dependencies=dependencies)
    app.add_exception_handler(PgprogError, _answer)


async def _answer(request: Request | WebSocket, error: Exception) -> Response:
    if isinstance(request, WebSocket):
        raise error  # accepted it speaks no HTTP any more: the server closes it, and logs why
    body: dict[str, Any] = {"detail": str(error)}
    match error:
        case CallTimeout():
            return accepted(request, error.task_id)
        case Rejected():
            body["rejected"] = error.payload
        case PgprogError() if error.sqlstate is not None:
            body["code"] = error.sqlstate
        case _:
            pass
    status = next((_STATUS[each] for each in type(error).__mro__ if each in _STATUS), 500)
    if status == 500:
        raise error
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    # A rejection may hold Decimals, as its namespace says.
    content = encode(body, field="the error", limit=sys.maxsize, numbers="decimal")
    return Response(content, status_code=status, headers=headers, media_type="application/json")
