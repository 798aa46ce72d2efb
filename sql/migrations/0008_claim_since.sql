-- claim has one more argument: with its old form beside, a call by the others would be ambiguous.
drop function if exists pgprog_engine.claim(bigint, integer, text[], integer[], integer);
