"""What is wrong with tables, schema, settings and rights is found and mended by its command."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # a server of its own: 2 s once

SHIFTED = Path(__file__).parents[1] / "programs/shifted_clock"


def test_partitions_that_maintenance_left_alone_are_made_and_dropped_by_it(patient: Any) -> None:
    row = patient.sql.execute(
        "delete from pgprog_data.partitions where parent = 'tasks' and starts_at > now()"
        " and starts_at < now() + interval '7 days' returning name"
    ).fetchone()
    patient.sql.execute(f"drop table pgprog_data.{row[0]}")
    patient.sql.execute("select pgprog_engine._create_partition('tasks', '2020-01-06Z')")
    old = patient.finding("partitions", "older than task_retention")

    missing = patient.is_mended("partitions", "it is missing: .* no task can end")

    assert missing["subject"] == f"partition {row[0]}"
    assert old["subject"] == "partition tasks_20200106"
    assert old["mend"] == missing["mend"] == "pgprog worker --only maintenance"
    assert patient.examine("--only", "partitions")["findings"] == []


def test_partitions_are_found_whatever_the_zone_of_the_session_has_of_summer_time(
    patient: Any,
) -> None:
    """With days of that zone the next week was looked for under the name of its Sunday."""
    monday = datetime.now(UTC).date()
    monday -= timedelta(days=monday.weekday())
    begins, ends = ((monday + timedelta(days=n)).timetuple().tm_yday - 1 for n in (3, 40))
    zone = f"WIN-1SUM,{begins},{ends}"  # an hour ahead of UTC, two from Thursday on
    patient.sql.execute(f"alter database {patient.sql.info.dbname} set timezone = '{zone}'")

    assert patient.examine("--only", "partitions")["findings"] == []


def test_a_table_without_autovacuum_is_named(patient: Any) -> None:
    patient.sql.execute("alter table pgprog_data.queue set (autovacuum_enabled = false)")

    found = patient.is_mended("autovacuum", "its autovacuum is off")

    assert found["subject"] == "table pgprog_data.queue"


@pytest.mark.parametrize(
    ("check", "setting", "cause"),
    [
        ("autovacuum", "autovacuum", "dead rows of the queue are never removed"),
        ("durability", "fsync", "may destroy the database"),
        ("durability", "full_page_writes", "may destroy the database"),
        ("durability", "synchronous_commit", "the last commits before a crash"),
    ],
)
def test_a_setting_that_endangers_the_server_is_named(
    patient: Any, check: str, setting: str, cause: str
) -> None:
    patient.sql.execute(f"alter system set {setting} = off")
    patient.sql.execute("select pg_reload_conf()")

    found = patient.is_mended(check, cause)

    assert found["subject"] == f"setting {setting}"


@pytest.mark.parametrize(
    ("setting", "value", "cause"),
    [
        ("default_transaction_isolation", "serializable", "refuse to run in another isolation"),
        ("default_transaction_read_only", "on", "nothing can be written"),
        ("statement_timeout", "200ms", "a busy claim"),
        ("idle_in_transaction_session_timeout", "1s", "steps with a transaction are cut off"),
    ],
)
def test_a_setting_that_breaks_sessions_is_named_with_whose_it_is(
    patient: Any, setting: str, value: str, cause: str
) -> None:
    database = patient.sql.info.dbname
    patient.sql.execute(f"alter database {database} set {setting} = '{value}'")

    found = patient.is_mended("session_settings", cause)

    assert found["evidence"]["whose"] == f"database {database}"


@pytest.fixture
def role(patient: Any) -> Iterator[str]:
    """A role of the server that logs in, under a name that needs quotes."""
    patient.sql.execute('create role "The Shop" login')
    yield "The Shop"
    patient.sql.execute('drop owned by "The Shop"')
    patient.sql.execute('drop role "The Shop"')


@pytest.mark.parametrize("place", ["", " in database {}"])
@pytest.mark.parametrize("value", ["1500", "1.5s", "1 s"])
def test_a_setting_of_a_role_that_breaks_sessions_is_named_with_the_role(
    patient: Any, role: str, place: str, value: str
) -> None:
    where = place.format(patient.sql.info.dbname)
    patient.sql.execute(f'grant usage on schema pgprog to "{role}"')
    patient.sql.execute(f'grant execute on function pgprog.call to "{role}"')
    patient.sql.execute(f"alter role \"{role}\"{where} set statement_timeout = '{value}'")

    found = patient.is_mended("session_settings", "a busy claim")

    assert found["evidence"]["whose"] == f"role {role}{where}"


def test_a_setting_of_all_roles_that_breaks_sessions_is_named_and_reset(patient: Any) -> None:
    patient.sql.execute("alter role all set statement_timeout = '1s'")

    found = patient.is_mended("session_settings", "a busy claim")

    assert found["evidence"]["whose"] == "all roles"


@pytest.mark.parametrize(
    "statement",
    [
        'alter role "The Shop" set default_transaction_read_only = on',  # who only reads
        "alter database {} set default_transaction_isolation = 'READ COMMITTED'",
        "alter database {} set statement_timeout = '0.5 h'",
    ],
)
def test_a_setting_that_breaks_nothing_of_pgprog_is_no_finding(
    patient: Any, role: str, statement: str
) -> None:
    patient.sql.execute(statement.format(patient.sql.info.dbname).encode())

    found = patient.examine("--only", "session_settings")

    assert found["findings"] == found["unseen"] == []


def test_dead_rows_are_told_and_vacuumed(patient: Any) -> None:
    patient.sql.execute("alter table pgprog_data.outbox set (autovacuum_enabled = false)")
    with patient.session("batch") as batch:  # which tells its counts when it ends
        batch.execute(
            "insert into pgprog_data.outbox (namespace, process_id, incarnation, kind, at)"
            " select 'orders', 'o', 1, 'x', now() from generate_series(1, 60000)"
        )
        batch.execute("delete from pgprog_data.outbox")
    found = patient.is_mended("dead_rows", "it has 60000 dead rows beside 0")

    assert found["subject"] == "table pgprog_data.outbox"


def test_a_schema_that_is_behind_is_migrated(patient: Any) -> None:
    patient.sql.execute(
        "update pgprog_data.schema_functions set sha256 = 'x' where name like '%api/get.sql'"
    )

    patient.is_mended("schema", "1 files .* differ, the first is functions/api/get.sql")


def test_a_schema_without_the_functions_of_the_doctor_is_migrated(patient: Any) -> None:
    patient.sql.execute("drop function pgprog.inspect_schema()")
    patient.sql.execute("delete from pgprog_data.schema_functions where name like '%inspect_sch%'")

    patient.is_mended("schema", "it is older than this pgprog: .*inspect_schema")


def test_a_schema_that_is_ahead_asks_for_a_newer_pgprog(patient: Any) -> None:
    patient.sql.execute(
        "insert into pgprog_data.schema_migrations values ('migrations/9999_tomorrow.sql', 'x')"
    )

    found = patient.finding("schema", "9999_tomorrow.sql, which this pgprog .* does not know")

    assert found["mend"] == "pip install --upgrade pgprog"


def test_a_function_that_was_edited_by_hand_is_as_it_was(patient: Any) -> None:
    patient.sql.execute(
        "create or replace function pgprog.schema_version() returns integer"
        " language sql stable as $$ select 0 $$"
    )

    found = patient.is_mended("functions", "somebody edited it by hand")

    assert found["subject"] == "function pgprog.schema_version"


def test_a_function_that_was_dropped_is_made_again(patient: Any) -> None:
    patient.sql.execute("drop function pgprog.stats()")

    patient.is_mended("functions", "it is not there")


def test_a_missing_index_is_made_again(patient: Any) -> None:
    patient.sql.execute("drop index pgprog_data.queue_later")

    found = patient.is_mended("indexes", "it is missing")

    assert found["subject"] == "index pgprog_data.queue_later"


def test_an_index_that_a_failed_build_left_is_dropped(patient: Any) -> None:
    patient.sql.execute("select pgprog.init('orders', 'a'), pgprog.init('orders', 'b')")
    with pytest.raises(Exception, match="could not create unique index"):
        patient.sql.execute(
            "create unique index concurrently twice on pgprog_data.queue (namespace)"
        )

    found = patient.is_mended("indexes", "it is invalid: a build on table queue failed")

    assert found["mend"] == "drop index pgprog_data.twice;"


def test_a_missing_publication_is_made(patient: Any) -> None:
    patient.sql.execute("drop publication pgprog_events")

    patient.is_mended("publications", "it is missing")


def test_a_publication_of_other_tables_is_set_right(patient: Any) -> None:
    patient.sql.execute("alter publication pgprog_processes drop table pgprog_data.timers")

    patient.is_mended("publications", "it has the tables processes and")


@pytest.mark.parametrize(
    ("publication", "less", "said"),
    [
        (
            "pgprog_events",
            "pgprog_data.events where (event_id > 5)",
            "it has the tables events with a condition and",
        ),
        (
            "pgprog_events",
            "pgprog_data.events (incarnation, event_id)",
            r"it has the tables events \(incarnation, event_id\) and",
        ),
        (
            "pgprog_wakeups",
            "pgprog_data.queue, pgprog_data.timers",
            "it has the tables queue, timers and",
        ),
    ],
)
def test_a_publication_of_other_rows_or_columns_is_set_right(
    patient: Any, publication: str, less: str, said: str
) -> None:
    if patient.sql.info.server_version < 150000:
        pytest.skip("PostgreSQL 14 has neither lists of columns nor conditions")
    patient.sql.execute(f"alter publication {publication} set table {less}")

    patient.is_mended("publications", said)


def test_a_replica_identity_that_does_not_name_what_is_removed_is_set_right(patient: Any) -> None:
    table = "pgprog_data.processes"
    index = "processes_incarnation_key"
    patient.sql.execute(f"alter table {table} replica identity using index {index}")

    found = patient.is_mended("replica_identities", f"index pgprog_data.{index}, without its")

    assert (found["subject"], found["severity"]) == (f"table {table}", "warning")


def test_a_table_without_replica_identity_cannot_be_changed(patient: Any) -> None:
    patient.sql.execute("alter table pgprog_data.timers replica identity nothing")

    found = patient.is_mended("replica_identities", "no row can be changed or removed")

    assert found["severity"] == "critical"


def test_a_function_that_everybody_may_execute_is_closed(patient: Any) -> None:
    patient.sql.execute("grant execute on function pgprog.stats() to public")

    patient.is_mended("grants", "everybody may execute it")


def test_rights_that_a_role_lacks_are_given(patient: Any) -> None:
    with patient.doing("pgprog db roles"):
        patient.sql.execute("revoke execute on function pgprog.resume(text) from pgprog_operator")

    found = patient.is_mended("grants", r"1 functions .*, pgprog.resume among them")

    assert found["subject"] == "role pgprog_operator"


def test_settings_that_differ_from_the_configuration_are_named(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(patient.place)
    (patient.place / "pgprog.yaml").write_text(
        "namespaces: {orders: {handlers: 'shop:orders', step_timeout: 1m}}\n"
    )

    found = patient.is_mended("settings", "step_timeout is .* in the database, .* and 1m in")

    assert found["mend"].startswith("pgprog namespace apply ")
    sys.modules.pop("shop", None)


def test_settings_of_a_configuration_whose_name_needs_quotes_are_applied(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = patient.place / "of the shop.yaml"
    path.write_text("namespaces: {orders: {handlers: 'shop:orders', step_timeout: 1m}}\n")
    monkeypatch.chdir(patient.place)
    monkeypatch.setenv("PGPROG_CONFIG", str(path))

    patient.is_mended("settings", "step_timeout is .* in the database, .* and 1m in")
    sys.modules.pop("shop", None)


def test_a_shared_reader_that_nobody_has_started_is_told(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(patient.place)
    path = patient.place / "reader.sock"
    (patient.place / "pgprog.yaml").write_text(
        f"reader: {{socket: {path}}}\n"
        "namespaces: {orders: {handlers: 'shop:orders', cache: {enabled: true}}}\n"
    )

    found = patient.is_mended("reader", "nobody listens there")

    assert found["mend"] == "pgprog worker --only reader"
    sys.modules.pop("shop", None)


def test_a_shared_reader_that_this_account_may_not_ask_is_told(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(patient.place)
    path = patient.place / "reader.sock"
    (patient.place / "pgprog.yaml").write_text(f"reader: {{socket: {path}}}\n")
    # Without the right by which root writes what is not root's.
    humbled = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    command = [sys.executable, "-m", "pgprog", "doctor", "--only", "reader", "--json"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)

        done = subprocess.run(
            command if os.geteuid() else humbled + command,
            check=False,
            capture_output=True,
            text=True,
        )

    assert done.returncode == 5, done.stderr
    [found] = json.loads(done.stdout)["findings"]
    assert "this account may not ask it" in found["cause"]
    assert found["mend"] == f"chgrp GROUP {path}"


def test_a_clock_that_is_away_from_the_database_is_told(patient: Any) -> None:
    command = [sys.executable, "-m", "pgprog", "doctor", "--only", "clock"]

    late = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(SHIFTED)},
        check=False,
        capture_output=True,
        text=True,
    )

    assert late.returncode == 5
    assert "it is 3600 s slow beside the database" in late.stdout
