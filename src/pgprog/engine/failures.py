"""What the log says of steps that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgprog import logs
from pgprog.codec import Misfit
from pgprog.current import Current, read_context
from pgprog.engine import decide
from pgprog.errors import InvalidArgument, Reject, StepError
from pgprog.store.rows import Outcome
from pgprog.tracing.spans import record

if TYPE_CHECKING:
    from pgprog.store.rows import Claimed, Completion

log = logs.get(__name__)


def log_failure(error: BaseException, completion: Completion) -> None:
    """Say within a step that its handler failed, with a traceback where that was not foreseen.

    A handler that says no has not failed: that is an answer.
    """
    if isinstance(error, Reject) and completion.outcome is Outcome.REJECTED:
        log.debug("step_rejected")
        return
    expected = isinstance(error, StepError | Misfit | InvalidArgument)
    log.warning(
        "step_failed",
        error_type=type(error).__name__,
        detail=decide.text_of(error) if expected else None,
        error=None if expected else error,
    )
    if not expected:
        record(error)


def fields_of(claimed: Claimed) -> dict[str, Any]:
    """Return what the log says of a step, for who is not within it."""
    carried, _ = read_context(claimed.context)
    return Current(claimed, carried=carried).fields()
