-- Our tables by their statistics: rows, dead rows, from how many on autovacuum acts, how long ago a vacuum
-- was, pages, and how many bytes the rows need by the width of their columns. Where the role may not
-- see the widths, or no ANALYZE has run, that is NULL. Touches no table.
SELECT c.relname::text, s.n_live_tup, s.n_dead_tup,
       coalesce(o.threshold, pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8)
         + coalesce(o.factor, pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8)
           * greatest(c.reltuples, 0),
       extract(epoch FROM pg_catalog.clock_timestamp()
         - greatest(s.last_vacuum, s.last_autovacuum, pg_catalog.pg_postmaster_start_time()))::float8,
       coalesce(o.is_off, false),
       c.relpages::bigint * 8192,
       c.reltuples::float8 * (w.width + 28::float8) * 100::float8 / coalesce(o.fill, 100)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = %(schema)s
JOIN pg_catalog.pg_stat_all_tables AS s ON s.relid = c.oid
CROSS JOIN LATERAL (
  SELECT pg_catalog.max(CASE WHEN t.option_name = 'autovacuum_vacuum_threshold'
                             THEN t.option_value::float8 END) AS threshold,
         pg_catalog.max(CASE WHEN t.option_name = 'autovacuum_vacuum_scale_factor'
                             THEN t.option_value::float8 END) AS factor,
         pg_catalog.max(CASE WHEN t.option_name = 'fillfactor' THEN t.option_value::float8 END) AS fill,
         pg_catalog.bool_or(t.option_name = 'autovacuum_enabled' AND NOT t.option_value::boolean) AS is_off
  FROM pg_catalog.pg_options_to_table(c.reloptions) AS t
  WHERE t.option_name IN ('autovacuum_vacuum_threshold', 'autovacuum_vacuum_scale_factor', 'fillfactor',
                          'autovacuum_enabled')
) AS o
CROSS JOIN LATERAL (
  SELECT pg_catalog.sum(p.avg_width::float8 * (1::float8 - p.null_frac::float8)) AS width
  FROM pg_catalog.pg_stats AS p
  WHERE p.schemaname = n.nspname
    AND p.tablename = c.relname
) AS w
WHERE c.relkind = 'r'
ORDER BY c.relname
