-- What the demo's handlers write: one row for each document, by a plain insert.
-- The only key is the row's own number: that no document has two rows is the engine's doing.

create schema if not exists demo;

create table if not exists demo.texts (
  id bigint generated always as identity primary key,
  document text not null,
  path text not null,
  digest text not null,
  format text not null,
  size bigint not null,
  title text not null,
  words integer not null,
  body text not null,
  tsv tsvector not null generated always as (
    setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', body), 'B')
  ) stored
);

create index if not exists texts_path on demo.texts (path);
create index if not exists texts_tsv on demo.texts using gin (tsv);

comment on schema demo is 'The documents of pgprog demo; drop it when you have seen enough';
comment on table demo.texts is 'One row for each document that was indexed';
comment on column demo.texts.document is 'The process_id of its process in the namespace documents';
comment on column demo.texts.size is 'Bytes of the file, packed or not';
comment on column demo.texts.words is 'Words of body, which is at most 256 KiB of the text';
