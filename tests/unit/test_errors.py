import copy
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgprog import errors
from pgprog.errors import (
    CallTimeout,
    CriticalError,
    InvalidArgument,
    PermanentError,
    PgprogError,
    ProcessNotFound,
    Reject,
    Rejected,
    StepError,
    StepFailed,
    StoreUnavailable,
    TaskCancelled,
    TransientError,
    for_sqlstate,
)

CODES = {
    "UP001": errors.ProcessNotFound,
    "UP002": errors.LeaseLost,
    "UP003": errors.ProcessNotInError,
    "UP004": errors.ProcessInError,
    "UP005": errors.ProcessExists,
    "UP006": errors.ProcessFinished,
    "UP007": errors.NamespaceNotFound,
    "UP008": errors.IdempotencyConflict,
    "UP009": errors.QueueFull,
    "UP010": errors.InvalidArgument,
    "UP011": errors.TaskNotFound,
    "UP012": errors.SchemaMismatch,
    "UP013": errors.StaleRead,
    "UP014": errors.SettingsMoved,
    "UP015": errors.NotPermitted,
}


@pytest.mark.parametrize(("code", "error"), CODES.items())
def test_each_code_of_class_up_has_its_own_error(code: str, error: type[PgprogError]) -> None:
    assert error.sqlstate == code
    assert for_sqlstate(code) is error


@pytest.mark.parametrize("code", [None, "08000", "08006", "57P01", "57P03"])
def test_a_lost_connection_means_that_the_outcome_is_unknown(code: str | None) -> None:
    assert for_sqlstate(code) is StoreUnavailable


@pytest.mark.parametrize("code", ["57014", "40001", "23505", "UP099", "UP", "00000", ""])
def test_what_is_not_expected_has_no_error(code: str | None) -> None:
    assert for_sqlstate(code) is None


def test_only_errors_that_come_from_sql_have_a_code() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]

    coded = {c for c in classes if issubclass(c, PgprogError) and c.sqlstate is not None}

    assert coded == set(CODES.values())


def test_catching_what_callers_catch_never_swallows_what_handlers_raise() -> None:
    assert not issubclass(StepError, PgprogError)
    assert not issubclass(PgprogError, StepError)
    assert StepError.__subclasses__() == [Reject, TransientError, PermanentError, CriticalError]


def test_the_tree_at_the_top_names_every_error() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]

    missing = [c.__name__ for c in classes if f" {c.__name__}" not in (errors.__doc__ or "")]

    assert missing == []


def test_a_call_timeout_is_a_timeout_error_that_knows_its_task() -> None:
    error = CallTimeout(17)

    assert isinstance(error, TimeoutError)
    assert error.task_id == 17
    assert str(error) == "task 17 has not ended in time"
    assert error.hint is not None


@pytest.mark.parametrize("error", [Rejected({"secret": 1}), Reject({"secret": 1})])
def test_a_payload_is_not_in_the_text_of_an_error(error: Any) -> None:
    assert error.payload == {"secret": 1}
    assert "secret" not in str(error)
    assert "secret" not in repr(error)


EXAMPLES = [
    ProcessNotFound("no process o-1 in namespace orders", hint="look at the id"),
    Rejected([1, 2]),
    StepFailed(7, "ValueError", "no", 3),
    TaskCancelled("removed"),
    CallTimeout(9),
    Reject({"a": 1}),
    TransientError("later", retry_after=timedelta(seconds=9)),
    PermanentError("never", code="closed"),
    CriticalError("disk"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_an_error_comes_out_of_a_child_process_as_it_went_in(
    error: Any, again: Callable[[Exception], Exception]
) -> None:
    error.__notes__ = ["seen"]

    other = again(error)

    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_an_error_without_a_hint_has_none() -> None:
    assert InvalidArgument("x").hint is None
