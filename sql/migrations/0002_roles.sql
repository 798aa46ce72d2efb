-- The database roles that a namespace is for.
-- Locks: namespaces, ACCESS EXCLUSIVE for a moment; nothing is rewritten.

-- Null: everybody who may call the functions.
alter table pgprog_data.namespaces add column roles text[] collate "C";
create index namespaces_with_roles on pgprog_data.namespaces (namespace) where roles is not null;
