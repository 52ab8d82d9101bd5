-- Run before a change of many jobs: the newest of them, so that the change comes to an end while others
-- are published; roughly how many rows the table has; and the first columns of the indexes that cover
-- the whole table.
SELECT (SELECT pg_catalog.max(j.id) FROM pgjobs.jobs AS j),
       c.reltuples::double precision,
       ARRAY(
         SELECT a.attname::text
         FROM pg_catalog.pg_index AS i
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = c.oid
           AND i.indisvalid
           AND i.indpred IS NULL
       )
FROM pg_catalog.pg_class AS c
WHERE c.oid = 'pgjobs.jobs'::regclass::oid
