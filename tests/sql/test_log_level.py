"""The log level that workers are asked for."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

SET = "select * from pgprog.set_log_level(%s, %s)"
TELL = "select pgprog_engine.tell_log_level(%s, %s)"
BEGIN = "select pgprog_engine.register_worker(%s, '{}', '{}', %s)"


@pytest.fixture
def app(session: Any) -> Any:
    return session()


def register(app: Any, name: str, lease: str = "1 hour") -> Any:
    return app.execute(BEGIN, (name, lease)).fetchone()[0]


def tell(app: Any, worker_id: int, level: str) -> Any:
    return app.execute(TELL, (worker_id, level)).fetchone()[0]


def writes(app: Any) -> Any:
    return app.execute("select xmin from pgprog_data.workers order by worker_id").fetchall()


def test_all_workers_that_live_are_asked_and_the_answer_has_their_levels(app: Any) -> None:
    first, second, _ = register(app, "a"), register(app, "b"), register(app, "dead", "-1 s")
    tell(app, first, "info")
    asked = app.execute(SET, ("debug", None)).fetchall()

    assert sorted(asked) == [(first, "a", "info"), (second, "b", None)]


def test_one_worker_is_asked_alone(app: Any) -> None:
    first, second = register(app, "a"), register(app, "b")

    assert app.execute(SET, ("debug", second)).fetchall() == [(second, "b", None)]
    assert (tell(app, first, "info"), tell(app, second, "info")) == (None, "debug")


def test_a_worker_is_asked_until_it_tells_that_it_has_obeyed_and_not_again(app: Any) -> None:
    worker_id = register(app, "a")
    tell(app, worker_id, "info")
    app.execute(SET, ("debug", None))

    assert [tell(app, worker_id, level) for level in ("info", "info", "debug")] == [
        "debug",
        "debug",
        None,
    ]
    assert tell(app, worker_id, "warning") is None  # its configuration was read again
    assert app.execute("select log_level, asked_log_level from pgprog.workers").fetchall() == [
        ("warning", None)
    ]


def test_a_level_that_stays_is_written_once(app: Any) -> None:
    worker_id = register(app, "a")
    tell(app, worker_id, "info")
    before = writes(app)
    tell(app, worker_id, "info")

    assert writes(app) == before


def test_an_open_transaction_that_asks_keeps_no_worker_from_renewing(
    app: Any, session: Any
) -> None:
    """It held the rows of all workers, whose leases ended."""
    worker_id, operator = register(app, "a"), session()
    tell(app, worker_id, "info")
    app.execute(SET, ("debug", None))
    app.execute("set statement_timeout = '5s'")
    with operator.transaction():
        operator.execute(SET, ("warning", None))
        app.execute("select pgprog_engine.renew_worker(%s, '1 hour', '{}')", (worker_id,))
        obeyed = tell(app, worker_id, "debug")

    assert obeyed is None
    assert tell(app, worker_id, "debug") == "warning"


def test_what_nobody_tells_any_more_goes_with_the_next_that_is_asked(app: Any) -> None:
    gone, lives = register(app, "a"), register(app, "b")
    app.execute(SET, ("debug", gone))
    app.execute("select pgprog_engine.deregister_worker(%s)", (gone,))
    app.execute(SET, ("debug", lives))

    left = app.execute("select worker_id from pgprog_data.asked_log_levels").fetchall()
    assert left == [(lives,)]


@pytest.mark.parametrize("level", ["loud", "DEBUG", None])
def test_a_level_that_there_is_not_is_refused(app: Any, level: str | None) -> None:
    with pytest.raises(psycopg.Error) as caught:
        app.execute(SET, (level, None))

    assert caught.value.sqlstate == "UP010"
