-- What but a session keeps VACUUM from removing dead rows: a replication slot or the feedback of a standby,
-- by how many transactions ago; a prepared transaction, by the time. A slot's catalog_xmin holds the
-- catalogs' rows alone.
SELECT 'slot', s.slot_name::text, coalesce(s.active_pid::text, 'inactive'),
       greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)), NULL::float8
FROM pg_catalog.pg_replication_slots AS s
WHERE greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)) >= %(age)s::bigint
UNION ALL
SELECT 'prepared', p.gid, p.owner::text, pg_catalog.age(p.transaction),
       extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8
FROM pg_catalog.pg_prepared_xacts AS p
WHERE p.database = pg_catalog.current_database()
  AND p.prepared < pg_catalog.clock_timestamp() - %(seconds)s::float8 * interval '1 second'
UNION ALL
SELECT 'standby', r.application_name, r.client_addr::text, pg_catalog.age(r.backend_xmin), NULL
FROM pg_catalog.pg_stat_replication AS r
WHERE pg_catalog.age(r.backend_xmin) >= %(age)s::bigint
ORDER BY 1, 2
LIMIT %(limit)s::bigint
