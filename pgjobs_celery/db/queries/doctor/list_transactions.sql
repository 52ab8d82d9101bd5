-- Sessions in this database whose transaction began so many seconds ago. VACUUM holds no old rows. A role
-- without pg_read_all_stats sees those of its own alone.
SELECT a.pid, a.usename::text, a.application_name, a.client_addr::text, a.state,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8,
       pg_catalog.age(a.backend_xmin), pg_catalog.left(a.query, 200)
FROM pg_catalog.pg_stat_activity AS a
WHERE a.datname = pg_catalog.current_database()
  AND a.pid <> pg_catalog.pg_backend_pid()
  AND a.backend_type = 'client backend'
  AND a.xact_start < pg_catalog.clock_timestamp() - %(seconds)s::float8 * interval '1 second'
  AND a.query !~* '^[[:space:]]*vacuum'
ORDER BY a.xact_start
LIMIT %(limit)s::bigint
