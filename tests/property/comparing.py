"""Everything that can be seen of the database and of the twin, in one form, to be compared.

Ids and versions grow on both sides by different steps: they are compared by their rank, versions
within a process.  A task
that is behind another is shown as waiting here: the database says blocked once a claim has seen it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pgprog.testing.twin import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgprog.testing.twin import Twin

Plain = dict[str, Any]

SNAPSHOT: Final = """
select jsonb_build_object(
  'processes', (
    select coalesce(jsonb_agg(
      to_jsonb(p) - 'xid'
      || pgprog.get(p.namespace, p.process_id, 1000)
      || jsonb_build_object(
        'explained', (
          select to_jsonb(e) from pgprog.explain(p.namespace, p.process_id) as e),
        'trace', (
          select coalesce(jsonb_agg(to_jsonb(t)), '[]')
          from pgprog.trace(p.namespace, p.process_id) as t))), '[]')
    from pgprog.processes as p),
  'tasks', (
    select coalesce(jsonb_agg(
      to_jsonb(t) || jsonb_build_object('result', pgprog.result(t.task_id))), '[]')
    from pgprog.tasks as t),
  'suspended', (
    select coalesce(jsonb_agg(t.task_id), '[]') from pgprog.timers as t where t.suspended),
  'keys', (
    select coalesce(jsonb_agg(to_jsonb(k) - 'fingerprint'), '[]') from pgprog_data.keys as k),
  'workers', (
    select coalesce(jsonb_agg(to_jsonb(w)), '[]') from pgprog.workers as w),
  'namespaces', (
    select jsonb_agg(jsonb_build_array(n.namespace, n.paused_at, n.pause_reason))
    from pgprog.namespaces as n))
"""

_TIME = re.compile(r"\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+\d\d:\d\d")
_VERSIONS = ("version",)
_IDS = ("task_id", "incarnation", "corrupted_by", "blocked_by")
_TOLD = ("task_id", "blocked_by", "runnable")


def read_database(raw: bytes) -> Plain:
    """Return what the database shows, with times as times."""
    shown: Plain = _timely(json.loads(raw))
    for process in shown["processes"]:
        explained = process.pop("explained")
        details = explained["details"]
        process["explained"] = {"reason": explained["reason"]} | {
            k: details[k] for k in _TOLD if k in details
        }
    return shown


def read_twin(twin: Twin) -> Plain:
    """Return what the twin shows, in the same form."""
    world = twin.world
    processes = []
    for process in world.processes.values():
        told = twin.explain(process.namespace, process.process_id)
        shown = twin.get(process.namespace, process.process_id, 1000) or {}
        explained = {"reason": told.reason} | {
            k: told.details[k] for k in _TOLD if k in told.details
        }
        trace = [_traced(asdict(row)) for row in twin.trace(process.namespace, process.process_id)]
        more = {"changed_at": process.changed_at, "explained": explained, "trace": trace}
        processes.append({**shown, **more})
    return {
        "processes": processes,
        "tasks": [_task(twin, task_id) for task_id in world.tasks],
        "suspended": [t.task_id for t in world.tasks.values() if t.place is Place.SUSPENDED],
        "keys": [
            {"namespace": ns, "key": name, "task_id": key.holder, "created_at": key.created_at}
            for (ns, name), key in world.keys.items()
        ],
        "workers": [
            {"name": w.name, "renewals": w.renewals, "lease_until": w.lease_until}
            for w in world.workers.values()
        ],
        "namespaces": [[s.name, s.paused_at, s.pause_reason] for s in world.spaces.values()],
    }


class Ranks:
    """The numbers of one side by their rank; what is unknown stays as it is."""

    def __init__(
        self, shown: Plain, *, workers: Mapping[int, str], puts: set[tuple[str, str]]
    ) -> None:
        tasks, processes = shown["tasks"], shown["processes"]
        ids = {t["task_id"] for t in tasks} | {t["incarnation"] for t in tasks}
        self.ids = sorted(ids | {p["incarnation"] for p in processes})
        self._by_id = {number: f"#{rank}" for rank, number in enumerate(self.ids)}
        versions = {(t["incarnation"], t["result"]["version"]) for t in tasks}
        versions |= {(p["incarnation"], p["version"]) for p in processes}
        grown = sorted(each for each in versions if each[1] is not None)
        self._by_version = {each: f"v{rank}" for rank, each in enumerate(grown)}
        self._workers = {str(number): name for number, name in workers.items()}
        self._puts = puts

    def of(self, shown: Plain) -> Plain:
        """Return what is shown with ranks for numbers, sorted, without what may differ."""
        tasks = [self._numbered(task) for task in shown["tasks"]]
        processes = [self._numbered(process) for process in shown["processes"]]
        for process in processes:
            process["trace"].sort(key=_in_trace)
        return {
            "processes": {(p["namespace"], p["process_id"]): p for p in processes},
            "tasks": {task["task_id"]: task for task in tasks},
            "suspended": sorted(self._by_id[task_id] for task_id in shown["suspended"]),
            "keys": {(k["namespace"], k["key"]): self._key(k) for k in shown["keys"]},
            "workers": {w["name"]: (w["renewals"], w["lease_until"]) for w in shown["workers"]},
            "namespaces": sorted(shown["namespaces"]),
        }

    def _key(self, key: Plain) -> tuple[Any, datetime]:
        # Of a put the key holds a version, of what made no task nothing, or 0.
        is_put = (key["namespace"], key["key"]) in self._puts
        holder = "a version" if is_put else self._by_id.get(key["task_id"]) or "no task"
        return holder, key["created_at"]

    def _numbered(self, value: Any, name: str = "", of: int = 0) -> Any:
        """Return what belongs to the incarnation *of* with ranks in it."""
        match value:
            case dict():
                of = value.get("incarnation", of)
                return {k: self._numbered(v, k, of) for k, v in value.items()}
            case list():
                return [self._numbered(v, name, of) for v in value]
            case _ if name in _IDS and isinstance(value, int):
                return self._by_id.get(value, value)
            case _ if name in _VERSIONS and isinstance(value, int):
                return self._by_version[of, value]
            case _ if name in {"worker", "worker_id"} and value is not None:
                return self._workers.get(str(value), value)
            case "blocked" if name == "status":
                return "waiting"
            case _:
                return value


def differences(database: Any, twin: Any, path: str = "") -> Iterable[str]:
    """Yield where the two differ, as lines to be read."""
    if isinstance(database, dict) and isinstance(twin, dict):
        for name in sorted(database.keys() | twin.keys(), key=str):
            if name not in twin:
                yield f"{path}/{name}: only in the database: {database[name]}"
            elif name not in database:
                yield f"{path}/{name}: only in the twin: {twin[name]}"
            else:
                yield from differences(database[name], twin[name], f"{path}/{name}")
    elif isinstance(database, list) and isinstance(twin, list) and len(database) == len(twin):
        for number, (ours, theirs) in enumerate(zip(database, twin, strict=True)):
            yield from differences(ours, theirs, f"{path}/{number}")
    elif database != twin:
        yield f"{path}: {database!r} in the database, {twin!r} in the twin"


def _in_trace(row: Plain) -> tuple[Any, ...]:
    """Return the order of the trace; what ended at one moment may stand in any."""
    ended_at = row["ended_at"] or datetime.max.replace(tzinfo=UTC)
    error = json.dumps(row["error"], sort_keys=True)
    return int(row["task_id"][1:]), row["attempt"], ended_at, error


def _timely(value: Any) -> Any:
    match value:
        case dict():
            return {k: _timely(v) for k, v in value.items()}
        case list():
            return [_timely(v) for v in value]
        case str() if _TIME.fullmatch(value):
            return datetime.fromisoformat(value)
        case _:
            return value


def _traced(row: Plain) -> Plain:
    """Return a row of the trace as the database shows it: its events without their task."""
    events = [
        {
            "event_id": e["event_id"],
            "at": e["at"],
            "payload": e["payload"],
            "metadata": e["metadata"],
        }
        for e in row["events"]
    ]
    return {**row, "events": events}


def _task(twin: Twin, task_id: int) -> Plain:
    task = twin.world.tasks[task_id]
    result = asdict(twin.result(task_id))
    is_open_timer = task.is_timer and task.place in (Place.WAITING, Place.SUSPENDED)
    error = result["error"] or {}
    del result["task_id"]
    return {
        "task_id": task_id,
        "namespace": task.namespace,
        "process_id": task.process_id,
        "incarnation": task.incarnation,
        "type": task.type,
        "name": task.name,
        "status": result["status"],
        "priority": task.priority,
        "attempt": task.attempt,
        "scheduled_at": task.due_at,
        "created_at": task.created_at,
        "started_at": None if is_open_timer else task.started_at,
        "ended_at": None if task.end is None else task.end.at,
        "worker_id": task.worker_id,
        "idempotency_key": task.key,
        "error_type": error.get("error_type"),
        "cause": error.get("cause"),
        "result": result,
    }
