-- The open transactions that write jobs, or are about to, by their virtual numbers: every role may see
-- these. Not ours. A time slightly before now goes with them: an end gets its time before its
-- transaction asks for the lock on the table, but not so long before.
SELECT (pg_catalog.clock_timestamp() - %(slack)s::float8 * interval '1 second')::text,
       ARRAY(
         SELECT DISTINCT l.virtualtransaction
         FROM pg_catalog.pg_locks AS l
         WHERE l.relation = 'pgjobs.jobs'::regclass::oid
           AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                             WHERE d.datname = pg_catalog.current_database())
           AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
           AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
       )
