/*
 * Create the week's partition of a table unless it exists: create, check, attach.
 *
 * Attaching takes share update exclusive on the parent, which stops neither readers nor writers;
 * the check makes the scan under that lock unnecessary.  The only SQL assembled from strings.
 */
create or replace function pgprog_engine._create_partition(parent text, starts_at timestamptz)
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  v_name text := _create_partition.parent || '_' || to_char(_create_partition.starts_at at time zone 'UTC', 'YYYYMMDD');
  v_ends_at timestamptz := _create_partition.starts_at + interval '7 days';
begin
  if exists (select 1 from pgprog_data.partitions as p where p.name = v_name) then
    return;
  end if;
  execute format(
    'create table pgprog_data.%1$I (like pgprog_data.%2$I including all,
       check (ended_at >= %3$L and ended_at < %4$L))',
    v_name, _create_partition.parent, _create_partition.starts_at, v_ends_at);
  execute format(
    'alter table pgprog_data.%2$I attach partition pgprog_data.%1$I for values from (%3$L) to (%4$L)',
    v_name, _create_partition.parent, _create_partition.starts_at, v_ends_at);
  insert into pgprog_data.partitions (name, parent, starts_at, ends_at)
  values (v_name, _create_partition.parent, _create_partition.starts_at, v_ends_at);
end
$$;

comment on function pgprog_engine._create_partition(text, timestamptz) is 'Create the week''s partition of a table unless it exists';
