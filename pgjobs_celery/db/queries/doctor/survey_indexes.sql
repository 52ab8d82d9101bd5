-- Our indexes: whether they are valid, whether one is being built just now, bytes, and how many bytes their
-- entries need by the width of their columns; NULL where that is not known. Touches no table.
SELECT i.relname::text, c.relname::text, x.indisvalid AND x.indisready AND x.indislive,
       EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index AS b
               WHERE b.relid = c.oid AND (b.index_relid = i.oid OR b.index_relid = 0::oid))
         -- Where the role may not see the progress of others: such a build holds this lock.
         OR NOT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
            AND EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                        WHERE l.relation = c.oid AND l.mode = 'ShareUpdateExclusiveLock'),
       i.relpages::bigint * 8192,
       i.reltuples::float8 * (16::float8 + (
         SELECT pg_catalog.sum(p.avg_width)::float8
         FROM pg_catalog.pg_attribute AS a
         JOIN pg_catalog.pg_stats AS p
           ON p.schemaname = n.nspname AND p.tablename = c.relname AND p.attname = a.attname
         WHERE a.attrelid = c.oid
           AND a.attnum = ANY (x.indkey)
       )) / 0.7::float8
FROM pg_catalog.pg_index AS x
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_class AS c ON c.oid = x.indrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = %(schema)s
ORDER BY i.relname
