-- Sessions that have locked one of our tables against writers. Reads the lock table in memory and catalogs,
-- which such a lock leaves open.
SELECT l.pid, c.relname::text, l.mode, a.usename::text, a.application_name, a.state,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8, pg_catalog.left(a.query, 200)
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = %(schema)s
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation'
  AND l.granted
  AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                    WHERE d.datname = pg_catalog.current_database())
  AND c.relkind IN ('r', 'p')
ORDER BY l.pid, c.relname
LIMIT %(limit)s::bigint
