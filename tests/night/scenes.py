"""The scenes of the night: a cause, what each window shows of it, and what mends it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.night.disk import LARGE, SMALL
from tests.night.workers import HANDLERS

from pgprog import Client
from pgprog.errors import StepFailed

if TYPE_CHECKING:
    from tests.night.disk import Disk
    from tests.night.load import Load
    from tests.night.windows import Windows
    from tests.night.workers import Workers
# So many must fail before a change of settings is blamed for it.
_ORDERS = [f"o-{number}" for number in range(20)]


def worker_killed(see: Windows, workers: Workers) -> None:
    see.title("A worker is killed")
    workers.kill(see.wait(workers.pid_in_step, "a worker inside a step"))
    see.did("`kill -9` of a worker inside a step")
    see.log("worker_fell", "ended")
    see.metric("sum(increase(pgprog_worker_falls_total[10s])) > 0")
    see.fires("PgprogWorkersFalling")
    see.top(lambda sight: _live(sight) == 2, "two workers have a lease again")
    see.nothing("`doctor`", "the supervisor had mended it before anybody could ask")
    see.ends("PgprogWorkersFalling")


def postgres_restarted(see: Windows, disk: Disk) -> None:
    see.title("PostgreSQL is restarted")
    disk.crash()
    see.did("PostgreSQL is ended as by a crash")
    _see_database_down(see)
    disk.start()
    see.did("PostgreSQL is started")
    _see_work_again(see)


def packets_dropped(see: Windows, load: Load) -> None:
    see.title("Packets are dropped")
    load.drop_packets()
    see.did("nothing passes any more between workers and PostgreSQL; no connection is closed")
    see.log("lease_cannot_be_renewed")
    see.metric('max(pgprog_workers{namespace="chaos"}) == 0')
    see.fires("PgprogUnserved", namespace="chaos")
    see.top(lambda sight: not _live(sight), "no worker has a lease")
    see.doctor("workers", "namespace chaos")
    load.pass_packets()
    see.did("packets pass again")
    see.ends("PgprogUnserved", namespace="chaos")
    _see_work_again(see)


def disk_filled(see: Windows, disk: Disk) -> None:
    see.title("The disk is full")
    disk.fill()
    see.did(f"a disk of {SMALL} is filled until PostgreSQL stops")
    _see_database_down(see)
    disk.enlarge()
    see.did(f"`mount -o remount,size={LARGE}`, and PostgreSQL is started")
    disk.start()
    _see_work_again(see)


def configuration_pushed(see: Windows, workers: Workers, dsn: str) -> None:
    see.title("Bad configuration is pushed")
    workers.write_config(", step_timeout: never")
    workers.reload()
    see.did("SIGHUP with a file that has a fault: refused, the old settings stay")
    see.log("reload_refused")
    workers.write_config(", step_timeout: 10ms")
    workers.reload()
    see.did("SIGHUP with `step_timeout: 10ms`, which is valid and too short")
    see.log("settings_changed", namespace="orders")
    _break_orders(dsn)
    see.log("settings_rolled_back", "version", "restored", namespace="orders")
    see.metric("sum(increase(pgprog_settings_rollbacks_total[10s])) > 0")
    see.fires("PgprogSettingsTakenBack")
    _see_failures(see)
    see.doctor("taken_back", "namespace orders")
    _pay_another(see, dsn)
    workers.write_config()
    workers.reload()
    see.did("the file is put right, and SIGHUP: nothing differs")
    see.log("reloaded", namespaces=[])
    _repair(see, "the time-out is back")
    see.ends("PgprogSettingsTakenBack")


def orders_broken(see: Windows, workers: Workers, dsn: str) -> None:
    see.title("A bug breaks a namespace")
    workers.write_handlers(
        HANDLERS.read_text().replace('step.state["price"]', 'step.state["prise"]')
    )
    workers.restart()
    see.did("handlers with a bug are deployed")
    _break_orders(dsn)
    _see_failures(see)
    workers.write_handlers(HANDLERS.read_text())
    workers.restart()
    see.did("handlers without it are deployed")
    _repair(see, "the bug is gone")


def leak_recycled(see: Windows, workers: Workers, dsn: str) -> None:
    see.title("A handler leaks memory")
    with Client(dsn) as client:
        client.call("orders", _ORDERS[0], {"mebibytes": 400}, name="leak")
    see.did("a handler keeps 400 MiB; `memory_limit` is 400MiB")
    see.log("memory_limit_reached")
    see.log("worker_recycled")
    see.metric("sum(increase(pgprog_worker_falls_total[10s])) > 0")
    see.fires("PgprogWorkersFalling")
    see.top(lambda sight: _live(sight) == 2, "two workers have a lease")
    see.nothing("`doctor`", "it asks the database, which does not know what workers hold")
    see.ends("PgprogWorkersFalling")


def begin_orders(dsn: str) -> None:
    with Client(dsn) as client:
        for order in _ORDERS:
            client.init("orders", order, {"price": 7})


def _live(sight: dict[str, Any]) -> int:
    workers: int = _of(sight, "chaos")["workers"]
    return workers


def _of(sight: dict[str, Any], namespace: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {each["namespace"]: each for each in sight["namespaces"]}
    return found[namespace]


def _break_orders(dsn: str) -> None:
    with Client(dsn) as client:
        for order in _ORDERS:
            with suppress(StepFailed):
                client.call("orders", order, name="pay")


def _pay_another(see: Windows, dsn: str) -> None:
    """See that new orders are served, while those that broke wait for a repair."""
    with Client(dsn) as client:
        client.init("orders", "o-new", {"price": 9})
        assert client.call("orders", "o-new", name="pay") == 9
        client.remove("orders", "o-new")
    see.top(
        lambda sight: _of(sight, "orders")["failed_per_second"] == 0,
        "nothing of orders fails any more, and a new order is paid: nobody had to be woken",
    )


def _see_failures(see: Windows) -> None:
    see.log("step_failed", "error_type", namespace="orders")
    see.metric(f'max(pgprog_processes_in_error{{namespace="orders"}}) >= {len(_ORDERS)}')
    see.fires("PgprogProcessesInErrorRising", namespace="orders")
    see.fires("PgprogTasksFailing", namespace="orders")
    see.top(
        lambda sight: any(f["namespace"] == "orders" for f in sight["failures"]),
        "orders is under errors, with the most frequent one",
    )
    see.doctor("failures", "namespace orders")


def _repair(see: Windows, reason: str) -> None:
    told = see.command(
        *("process", "repair", "--all", "--namespace", "orders", "--simple"),
        *("--reason", reason, "--yes"),
    )
    assert f"{len(_ORDERS)} repaired, 0 failed, 0 skipped" in told, told
    see.metric('max(pgprog_processes_in_error{namespace="orders"}) == 0')
    see.ends("PgprogProcessesInErrorRising", namespace="orders")
    see.ends("PgprogTasksFailing", namespace="orders")


def _see_database_down(see: Windows) -> None:
    see.log("renewal_failed")
    see.metric("max(pgprog_database_up) == 0")
    see.fires("PgprogDatabaseDown")
    see.no_database()


def _see_work_again(see: Windows) -> None:
    see.ends("PgprogDatabaseDown")
    see.top(lambda sight: _of(sight, "chaos")["ended_per_second"] > 0, "tasks of chaos end again")
