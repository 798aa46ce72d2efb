/*
 * Return the duration that a setting says, a sum of numbers each with its unit, as the configuration reads it.
 *
 * PostgreSQL's own reading refuses a unit that is named twice, milliseconds beside microseconds, and with an error
 * that is none of ours what is too long: that is 36501 days here, a day more than any setting may be.  A day is of 24
 * hours: with days of its own an interval would follow the summer time of whoever reckons with it.
 */
create or replace function pgprog_engine._duration(setting text)
returns interval
language sql immutable
as $$
  select d.us::bigint * interval '1 microsecond'
  from (
    select least(36501 * 86400000000, sum(p.parts[1]::numeric * case p.parts[2]
      when 'd' then 86400000000 when 'h' then 3600000000 when 'm' then 60000000
      when 's' then 1000000 when 'ms' then 1000 else 1 end)) as us
    from regexp_matches(setting, '([0-9]+(?:[.][0-9]+)?)(d|h|ms|m|us|s)', 'g') as p(parts)
    having count(*) > 0
  ) as d
$$;

comment on function pgprog_engine._duration(text) is 'The duration that a setting says, as the configuration reads it';
