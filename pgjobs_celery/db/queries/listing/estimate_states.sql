-- About how many jobs are in each state, as the server's statistics have it from the last ANALYZE. A
-- state that none of the sampled rows was in is not among them.
SELECT v.state, v.share * c.reltuples::double precision
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_stats AS s
  ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'state'
CROSS JOIN LATERAL ROWS FROM (
  pg_catalog.unnest(s.most_common_vals::text::text[]), pg_catalog.unnest(s.most_common_freqs)
) AS v (state, share)
WHERE c.oid = 'pgjobs.jobs'::regclass::oid
  AND c.reltuples > 0::real
