-- Facts about the server that the jobs depend on, none of which reads a table of ours: counters of the
-- server, and sizes of files. NULL for what the role may not see. 2 ms.
SELECT
  (SELECT s.n_live_tup FROM pg_catalog.pg_stat_user_tables AS s WHERE s.relid = 'pgjobs.jobs'::regclass::oid),
  (SELECT s.n_dead_tup FROM pg_catalog.pg_stat_user_tables AS s WHERE s.relid = 'pgjobs.jobs'::regclass::oid),
  pg_catalog.pg_total_relation_size('pgjobs.jobs'::regclass),
  -- The age of the oldest snapshot that keeps VACUUM from its work, in transactions.
  (SELECT pg_catalog.max(pg_catalog.age(o.xmin))
   FROM (
     SELECT a.backend_xmin AS xmin FROM pg_catalog.pg_stat_activity AS a WHERE a.backend_xmin IS NOT NULL
     UNION ALL
     SELECT r.xmin FROM pg_catalog.pg_replication_slots AS r WHERE r.xmin IS NOT NULL
     UNION ALL
     SELECT p.transaction FROM pg_catalog.pg_prepared_xacts AS p
   ) AS o),
  (SELECT extract(epoch FROM pg_catalog.max(pg_catalog.now() - a.xact_start))::float8
   FROM pg_catalog.pg_stat_activity AS a
   WHERE a.datname = pg_catalog.current_database()
     AND a.xact_start IS NOT NULL
     AND a.backend_type = 'client backend'),
  pg_catalog.pg_notification_queue_usage(),
  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.backend_type = 'client backend'),
  pg_catalog.current_setting('max_connections')::integer,
  (SELECT extract(epoch FROM pg_catalog.clock_timestamp() - f.folded_at)::float8
   FROM pgjobs.fold AS f WHERE pg_catalog.isfinite(f.folded_at)),
  (SELECT extract(epoch FROM pg_catalog.clock_timestamp() - f.counted_at)::float8
   FROM pgjobs.fold AS f WHERE pg_catalog.isfinite(f.counted_at)),
  pg_catalog.pg_stat_get_tuples_inserted('pgjobs.steps'::regclass::oid),
  pg_catalog.pg_stat_get_tuples_inserted('pgjobs.signals'::regclass::oid)
