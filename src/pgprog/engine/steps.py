"""From a claim to the step that its handler is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgprog.codec import Codec, Misfit
from pgprog.errors import PermanentError
from pgprog.model import ProcessStatus, Step, TaskId, TaskType

if TYPE_CHECKING:
    from datetime import datetime

    from pgprog.model import StepAccess
    from pgprog.namespace import Namespace
    from pgprog.store.rows import Claimed

# To call an enum costs ten times as much, and every step would pay it twice.
_TYPES = {each.value: each for each in TaskType}
_STATUSES = {each.value: each for each in ProcessStatus}


def step_of(
    claimed: Claimed, *, namespace: Namespace[Any], access: StepAccess, deadline: datetime
) -> Step[Any]:
    """Return the step of a claimed task, its state upcast to what the code of today reads.

    Raises:
        PermanentError: The state cannot be read; trying again would not help.
    """
    plain = namespace.plain_codec
    try:
        state = namespace.load_state(claimed.state, claimed.state_version)
    except Misfit as e:
        msg = f"the state of process {claimed.process_id} cannot be read: {e}"
        raise PermanentError(msg, code="Misfit") from e
    step: Step[Any] = object.__new__(Step)
    # A frozen dataclass sets its fields one by one, at five times the price, for each step.
    vars(step).update(
        namespace=claimed.namespace,
        process_id=claimed.process_id,
        task_id=TaskId(claimed.task_id),
        type=_TYPES[claimed.type],
        name=claimed.name,
        args=_decoded(claimed.args, plain),
        context=_decoded(claimed.context, plain),
        attempt=claimed.attempt,
        state=state,
        metadata=_decoded(claimed.metadata, plain),
        status=_STATUSES[claimed.status],
        last_event_id=claimed.last_event_id,
        version=claimed.version,
        deadline=deadline,
        _access=access,
    )
    return step


def _decoded(raw: bytes | None, codec: Codec[Any]) -> Any:  # noqa: ANN401 - JSON
    return None if raw is None else codec.decode(raw)
