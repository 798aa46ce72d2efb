"""Why a server cannot be followed, and what would change that."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pgprog.errors import ReplicationLost, ReplicationRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from pgprog.replication.published import Published


class Reason(StrEnum):
    """What is in the way."""

    WAL_LEVEL = "wal_level"
    STANDBY = "standby"
    PRIVILEGE = "privilege"
    SENDERS = "senders"
    SLOTS = "slots"
    PUBLICATION = "publication"
    IDENTITY = "identity"
    SCHEMA = "schema"
    POOLER = "pooler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides whether the server can be followed; *senders* are those at work.

    *unpublished* are tables of which the publications tell nothing, *nameless* those of which they
    tell changes without the primary key of what has changed.  *partial* are operations on tables
    of which they do not tell all, *lacking* the columns that they leave out.
    """

    wal_level: str
    in_recovery: bool
    user: str
    may_replicate: bool
    senders: int
    max_senders: int
    missing: Sequence[str]
    unpublished: Sequence[str]
    nameless: Sequence[str]
    partial: Sequence[str]
    lacking: Sequence[str]


_SET_RIGHT: Final = (
    "run `pgprog db migrate --again`, or sql/publication.sql as the owner of the publications"
)

# Ordinary SQL, for either kind of connection.  The catalogues are readable by everybody.
#
# The stream tells an operation on a table if any of the publications publishes it, and every row
# if one of these has no condition; conditions and lists of columns are there from PostgreSQL 15 on.
FACTS = """
with wanted as (
  select w.key as name, w.value -> 'columns' as columns, w.value -> 'whole' as whole
  from jsonb_each(%(wanted)s::jsonb) as w
),
published as (
  select
    t.schemaname || '.' || t.tablename as name,
    to_jsonb(t) ->> 'rowfilter' is not null as is_filtered,
    to_jsonb(t) -> 'attnames' as columns,
    jsonb_build_object(
      'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete, 'truncate', p.pubtruncate
    ) as does
  from pg_publication_tables as t
  join pg_publication as p on p.pubname = t.pubname
  where t.pubname = any (%(publications)s::text[])
)
select current_setting('wal_level'), pg_is_in_recovery(), current_user,
  (select r.rolreplication or r.rolsuper from pg_roles as r where r.rolname = current_user),
  (select count(*) from pg_stat_replication), current_setting('max_wal_senders')::integer,
  array(
    select n.name from unnest(%(publications)s::text[]) as n(name)
    where not exists (select from pg_publication as p where p.pubname = n.name)),
  array(
    select w.name from wanted as w
    where not exists (select from published as p where p.name = w.name)
    order by w.name),
  array(
    select format('%%I.%%I', t.schemaname, t.tablename)
    from pg_publication_tables as t
    join pg_publication as p on p.pubname = t.pubname and (p.pubupdate or p.pubdelete)
    join pg_class as c
      on c.relname = t.tablename
      and c.relnamespace = (select s.oid from pg_namespace as s where s.nspname = t.schemaname)
    join pg_index as k on k.indrelid = c.oid and k.indisprimary
    left join pg_index as i on i.indrelid = c.oid and i.indisreplident
    where t.pubname = any (%(publications)s::text[])
      and t.schemaname || '.' || t.tablename in (select w.name from wanted as w)
      and (
        c.relreplident = 'n'
        or c.relreplident = 'i' and not k.indkey::int2[] <@ i.indkey::int2[])),
  array(
    select format('%%s of %%s', o.operation, w.name)
    from wanted as w
    cross join jsonb_array_elements_text(w.whole) with ordinality as o(operation, number)
    where not exists (
      select from published as p
      where p.name = w.name and not p.is_filtered and (p.does -> o.operation)::boolean)
    order by w.name, o.number),
  array(
    select format('%%s.%%s', w.name, c.name)
    from wanted as w
    cross join jsonb_array_elements_text(w.columns) as c(name)
    where exists (select from published as p where p.name = w.name and not p.columns ? c.name)
    order by w.name, c.name)
"""


async def find_facts(connection: psycopg.AsyncConnection, published: Published) -> Facts:
    """Ask the server."""
    wanted = {
        table: {"columns": [*columns], "whole": [*published.whole.get(table, ())]}
        for table, columns in published.columns.items()
    }
    asked = {"publications": [*published.publications], "wanted": json.dumps(wanted)}
    row = await (await connection.execute(FACTS, asked)).fetchone()
    assert row is not None  # noqa: S101 - a select without from has one row
    names = Facts.__slots__
    return Facts(**dict(zip(names, row, strict=True)))


def in_the_way(facts: Facts) -> ReplicationRefused | None:
    """Return why a server that took our connection cannot be followed, None if nothing is known."""
    if facts.wal_level != "logical":
        msg = f"wal_level is {facts.wal_level}, and logical replication needs logical"
        hint = "set wal_level = logical and restart PostgreSQL"
        return ReplicationRefused(Reason.WAL_LEVEL, msg, hint=hint)
    if facts.in_recovery:
        return ReplicationRefused(
            Reason.STANDBY, "the server is a standby", hint="let direct_dsn name the primary"
        )
    return _in_the_publications(facts)


def _in_the_publications(facts: Facts) -> ReplicationRefused | None:
    if facts.missing:
        msg = f"there is no publication {', '.join(facts.missing)}"
        hint = "run `pgprog db migrate`, or sql/publication.sql as the owner of the tables"
        return ReplicationRefused(Reason.PUBLICATION, msg, hint=hint)
    if facts.unpublished:
        msg = f"no publication that is followed has {', '.join(facts.unpublished)}"
        return ReplicationRefused(Reason.PUBLICATION, msg, hint=_SET_RIGHT)
    if facts.partial:
        msg = f"the publications that are followed do not tell every {', '.join(facts.partial)}"
        return ReplicationRefused(Reason.PUBLICATION, msg, hint=_SET_RIGHT)
    if facts.lacking:
        msg = f"the publications that are followed leave out {', '.join(facts.lacking)}"
        return ReplicationRefused(Reason.PUBLICATION, msg, hint=_SET_RIGHT)
    if facts.nameless:
        msg = f"the replica identity of {', '.join(facts.nameless)} is without the primary key,"
        msg += " so that nothing would say which row was removed"
        hint = "; ".join(f"alter table {each} replica identity default" for each in facts.nameless)
        return ReplicationRefused(Reason.IDENTITY, msg, hint=hint)
    return None


def at_the_door(facts: Facts) -> ReplicationRefused | None:
    """Return why the server did not take our connection for replication."""
    if not facts.may_replicate:
        msg = f"role {facts.user} may not replicate"
        hint = f"alter role {facts.user} replication; membership in a role does not pass it on"
        return ReplicationRefused(Reason.PRIVILEGE, msg, hint=hint)
    if facts.senders >= facts.max_senders:
        msg = f"all {facts.max_senders} max_wal_senders are taken"
        hint = "raise max_wal_senders and restart PostgreSQL, or run fewer readers"
        return ReplicationRefused(Reason.SENDERS, msg, hint=hint)
    return None


def by_pooler(said: str) -> ReplicationRefused:
    """Return what it means that a pooler did not take our connection for replication."""
    msg = f"direct_dsn leads to a pooler, which does not take replication: {said}"
    hint = "let direct_dsn name PostgreSQL itself"
    return ReplicationRefused(Reason.POOLER, msg, hint=hint)


def after(error: psycopg.Error, *, user: str) -> ReplicationLost:
    """Return what the server's refusal of a command means, by SQLSTATE."""
    said = error.diag.message_primary or str(error)
    match error.sqlstate:
        case "53400":
            hint = "raise max_replication_slots and restart PostgreSQL, or drop slots that are idle"
            return ReplicationRefused(Reason.SLOTS, said, hint=hint)
        case "42501":
            hint = f"alter role {user} replication; grant pgprog_replicator to {user}"
            return ReplicationRefused(Reason.PRIVILEGE, said, hint=hint)
        case "42704":
            hint = "run `pgprog db migrate`, or sql/publication.sql as the owner of the tables"
            return ReplicationRefused(Reason.PUBLICATION, said, hint=hint)
        case "3F000" | "42883":
            return ReplicationRefused(Reason.SCHEMA, said, hint="run `pgprog db migrate`")
        case "55P03":
            hint = "a transaction that writes has been open for long; a slot waits for its end"
            return ReplicationLost(said, hint=hint)
        case _:
            return ReplicationLost(said, hint=error.diag.message_hint)
