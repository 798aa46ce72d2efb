"""What open transactions, slots and standbys hold is found, named, and let go by its command."""

from __future__ import annotations

import struct
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgprog.store import doctor

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow  # a server of its own: 2 s once

_FEEDBACK = struct.Struct("!cqIIII")  # time, xmin and catalog_xmin with their epochs


def test_a_transaction_that_holds_xmin_is_named_with_its_owner(patient: Any) -> None:
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pg_current_xact_id()")
        pid = app.info.backend_pid

        found = patient.is_mended("transactions", "billing of postgres is idle in transaction")

    assert found["severity"] == "warning"
    assert "xmin" in found["cause"]
    assert found["evidence"]["pid"] == pid


def test_a_transaction_that_holds_nothing_yet_is_named_so(patient: Any) -> None:
    with patient.session("billing") as app:
        app.execute("begin")

        found = patient.is_mended("transactions", "billing of postgres is idle in transaction")

    assert found["cause"].endswith("; it holds nothing yet")


def test_a_session_with_an_uncommitted_key_is_named(patient: Any) -> None:
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pgprog.init('orders', 'o-1', idempotency_key => 'k')")

        found = patient.is_mended("transactions", "idempotency keys")

    assert found["severity"] == "critical"


def test_a_session_that_holds_a_process_is_named_with_the_process(patient: Any) -> None:
    patient.sql.execute("select pgprog.init('orders', 'o-1')")
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pgprog.cancel(task_id) from pgprog.tasks")

        found = patient.is_mended("transactions", "rows of processes")

    assert found["evidence"]["processes"] == ["orders o-1"]


def test_a_session_that_pauses_and_does_not_commit_is_named_with_what_it_stops(
    patient: Any,
) -> None:
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pgprog.pause('orders')")

        found = patient.is_mended("transactions", "the starts of orders: no task starts there")

    assert found["severity"] == "critical"
    assert found["evidence"]["stopped"] == ["orders"]


def test_a_short_transaction_is_no_finding(patient: Any) -> None:
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pg_current_xact_id()")

        assert patient.examine("--only", "transactions", "--long", "1m")["findings"] == []


def test_a_prepared_transaction_is_named_and_rolled_back(patient: Any) -> None:
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pgprog.init('orders', 'o-1')")
        app.execute("prepare transaction 'left''over'")

    found = patient.is_mended("prepared_transactions", "nobody has ended it")

    assert found["subject"] == "prepared transaction left'over"


def test_a_slot_that_nobody_follows_is_named_and_dropped(patient: Any) -> None:
    patient.sql.execute("select pg_create_logical_replication_slot('left_behind', 'pgoutput')")

    found = patient.is_mended("replication_slots", "nobody follows it.* of WAL and xmin")

    assert found["subject"] == "replication slot left_behind"


def test_a_reader_that_has_stopped_is_named_by_the_wal_that_its_temporary_slot_holds(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_MUCH_WAL", 1 << 20)  # bytes
    with patient.session("reader") as reader:
        reader.execute("select pg_create_logical_replication_slot('followed', 'pgoutput', true)")
        before = patient.examine("--only", "replication_slots")["findings"]
        patient.sql.execute("select pg_logical_emit_message(false, '', repeat('x', 2000000))")

        found = patient.is_mended("replication_slots", f"session {reader.info.backend_pid} .*slow")

    assert before == []
    assert found["subject"] == "replication slot followed"
    assert found["severity"] == "warning"


@pytest.fixture
def standby(patient: Any) -> Any:
    """Whoever calls it says, as a standby, which xmin its own reads need; 0 for none."""
    with closing(
        psycopg.connect(patient.dsn, application_name="east", replication="true", autocommit=True)
    ) as connection:
        pgconn = connection.pgconn
        row = patient.sql.execute("select pg_current_wal_lsn()").fetchone()
        pgconn.exec_(f"START_REPLICATION PHYSICAL {row[0]}".encode())

        def say(xmin: int) -> None:
            pgconn.put_copy_data(_FEEDBACK.pack(b"h", 0, xmin, 0, 0, 0))
            while pgconn.flush():
                pass

        yield say


def test_a_standby_whose_reads_hold_xmin_is_named(
    patient: Any, standby: Callable[[int], None]
) -> None:
    row = patient.sql.execute("select pg_current_xact_id()::text::bigint").fetchone()
    standby(row[0])
    patient.sql.execute("select pg_current_xact_id()")

    found = patient.finding("standby_feedback", "hot_standby_feedback")
    standby(0)  # what a standby says after what is told to be done there

    assert found["subject"] == "standby east"
    assert "on that standby" in found["mend"]
    while patient.examine("--only", "standby_feedback")["findings"]:
        pass


def test_transaction_ids_that_are_not_frozen_are_told_and_frozen(patient: Any) -> None:
    with patient.session("report") as app:
        app.execute("begin isolation level repeatable read")
        app.execute("select 1")  # a snapshot that holds back every vacuum
        patient.sql.execute("set synchronous_commit = off")
        patient.sql.execute(
            "do $$ begin for i in 1 .. 160000 loop perform pg_current_xact_id(); commit;"
            " end loop; end $$"
        )
        told = patient.finding("wraparound", "oldest transaction id is 1[56]")
        patient.is_mended("transactions", "report of postgres")

        with patient.doing(told["mend"]):
            assert patient.examine("--only", "wraparound")["findings"] == []


@pytest.mark.parametrize(
    ("mode", "told"),
    [("access exclusive", "nobody reads or writes them"), ("share", "nobody writes to them")],
)
def test_a_session_that_has_locked_tables_is_named(patient: Any, mode: str, told: str) -> None:
    with patient.session("cleaning") as stranger:
        stranger.execute("begin")
        stranger.execute(f"lock table pgprog_data.processes, pgprog_data.queue in {mode} mode")

        found = patient.is_mended("locks", told)

    assert found["severity"] == "critical"
    assert found["cause"].startswith("cleaning of postgres has locked tables since")
    assert "processes" in found["cause"]
    assert "queue" in found["cause"]


def test_a_session_that_waits_for_a_table_is_named_with_whom_it_waits_for(patient: Any) -> None:
    with patient.session("report") as reader, patient.session("cleaning") as stranger:
        reader.execute("begin")
        reader.execute("select from pgprog_data.processes")
        pid = reader.info.backend_pid
        vacuum = threading.Thread(target=vacuum_full, args=(stranger,))
        vacuum.start()

        found = patient.is_mended("locks", "has waited")
        vacuum.join(timeout=15)

    assert not vacuum.is_alive()
    assert found["evidence"]["behind"] == [pid]
    assert found["mend"].startswith("select pg_cancel_backend")


def vacuum_full(connection: psycopg.Connection[Any]) -> None:
    """Want a table for oneself, until somebody cancels it."""
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("vacuum full pgprog_data.processes")


def test_locks_of_those_who_read_and_write_are_no_finding(patient: Any) -> None:
    with patient.session("billing") as app:
        app.execute("begin")
        app.execute("select pgprog.init('orders', 'o-1')")

        assert patient.examine("--only", "locks")["findings"] == []


def test_a_lock_that_was_taken_just_before_is_no_finding(patient: Any) -> None:
    with patient.session("pgprog migrate") as stranger:
        stranger.execute("begin")
        stranger.execute("lock table pgprog_data.processes in access exclusive mode")

        assert patient.examine("--only", "locks", "--long", "5m")["findings"] == []


def test_checks_that_met_a_lock_are_a_finding(patient: Any) -> None:
    with patient.session("cleaning") as stranger:
        stranger.execute("begin")
        stranger.execute("lock table pgprog_data.queue in access exclusive mode")
        pid = stranger.info.backend_pid

        [found] = patient.examine("--only", "queue,schema", "--long", "5m")["findings"]
        by_name = patient.examine(*found["mend"].split()[2:])["findings"]

    assert (found["check"], found["severity"]) == ("locks", "warning")
    assert found["evidence"] == {"checks": ["queue"]}
    assert [each["subject"] for each in by_name] == [f"session {pid}"]
