"""The requests of a blocking client: how they are written, whoever answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from pgprog.client.requests import asked
from pgprog.model import TaskType

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgprog.client.requests import Asked, Options
    from pgprog.namespace import Handler, Namespace

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class BlockingRequests(Generic[T]):
    """Requests by a handler, typed, or by the name of a namespace; *T* is the type of a task."""

    @overload
    def init(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    def init(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> Any: ...  # noqa: ANN401 - JSON

    def init(self, target: Any, process_id: str, /, *args: Any, **options: Any) -> Any:
        """Create a process and return the answer of its init, as `AsyncClient.init` does."""
        return self._ask(asked(TaskType.INIT, target, process_id, args, options))

    @overload
    def call(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    def call(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> Any: ...  # noqa: ANN401 - JSON

    def call(self, target: Any, process_id: str, /, *args: Any, **options: Any) -> Any:
        """Call a process and return its answer, as `AsyncClient.call` does."""
        return self._ask(asked(TaskType.CALL, target, process_id, args, options))

    @overload
    def repair(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    def repair(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> Any: ...  # noqa: ANN401 - JSON

    def repair(self, target: Any, process_id: str, /, *args: Any, **options: Any) -> Any:
        """Have a process in error mended by its repair handler, as `AsyncClient.repair` does."""
        return self._ask(asked(TaskType.REPAIR, target, process_id, args, options))

    @overload
    def notify(
        self, handler: Handler[P, R, Any], process_id: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    def notify(
        self,
        namespace: str | Namespace[Any],
        process_id: str,
        /,
        args: object = None,
        **options: Unpack[Options],
    ) -> T: ...

    def notify(self, target: Any, process_id: str, /, *args: Any, **options: Any) -> T:
        """Tell a process something, as `AsyncClient.notify` does."""
        return self._queue(asked(TaskType.NOTIFY, target, process_id, args, options))

    def submit(
        self,
        type: str,  # noqa: A002 - the word of the specification
        namespace: str | Namespace[Any],
        process_id: str,
        args: object = None,
        **options: Unpack[Options],
    ) -> T:
        """Queue a request and return its task, as `AsyncClient.submit` does."""
        return self._queue(asked(type, namespace, process_id, (args,), options))

    def _ask(self, asked: Asked) -> Any:  # noqa: ANN401 - what the handler answers
        """Return the answer to a request."""
        raise NotImplementedError

    def _queue(self, asked: Asked) -> T:
        """Queue a request and return its task."""
        raise NotImplementedError
