-- The server, its settings as a new session of this role has them, and how many of its connections are in
-- use: of all, of the role's, and of the database's. 3 ms, for pg_settings makes a row of each setting.
SELECT pg_catalog.current_setting('server_version_num')::integer,
       pg_catalog.current_setting('server_version'),
       pg_catalog.current_setting('server_encoding'),
       pg_catalog.pg_is_in_recovery(),
       (SELECT pg_catalog.json_object_agg(s.name, s.reset_val)::text
        FROM pg_catalog.pg_settings AS s
        WHERE s.name = ANY (%(settings)s::text[])),
       session_user::text,
       d.datname::text,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
       c.used, c.of_role, c.of_database,
       CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END,
       d.datconnlimit,
       pg_catalog.pg_notification_queue_usage(),
       extract(epoch FROM pg_catalog.clock_timestamp())::float8
FROM pg_catalog.pg_database AS d
JOIN pg_catalog.pg_roles AS r ON r.rolname = session_user
CROSS JOIN (
  SELECT pg_catalog.count(*) AS used,
         pg_catalog.count(*) FILTER (WHERE a.usename = session_user) AS of_role,
         pg_catalog.count(*) FILTER (WHERE a.datname = pg_catalog.current_database()) AS of_database
  FROM pg_catalog.pg_stat_activity AS a
  WHERE a.usesysid IS NOT NULL
    AND coalesce(a.backend_type, 'client backend') = 'client backend'
) AS c
WHERE d.datname = pg_catalog.current_database()
