-- The session whose transaction has locked or changed the job's row, or that has locked the whole table
-- against claims; a claim passes over such a row. xmax is the number of the last transaction that locked
-- the row, and pg_locks has it for as long as that goes on: no right to lock is needed. A role without
-- pg_read_all_stats sees of a foreign session its number alone. Of several lockers of one row, which only
-- foreign keys make, nothing is told. Reads the lock table in memory.
SELECT l.pid, a.usename::text, a.application_name, a.xact_start, a.query_start, a.state,
       pg_catalog.left(a.query, 200), l.locktype = 'relation'
FROM pg_catalog.pg_locks AS l
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  AND (l.locktype = 'transactionid'
         AND l.mode = 'ExclusiveLock'
         AND l.transactionid = (SELECT j.xmax FROM pgjobs.jobs AS j WHERE j.task_id = %(task_id)s)
       OR l.locktype = 'relation'
         AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock')
         AND l.relation = 'pgjobs.jobs'::pg_catalog.regclass::pg_catalog.oid
         AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                           WHERE d.datname = pg_catalog.current_database()))
ORDER BY a.xact_start
LIMIT 1
