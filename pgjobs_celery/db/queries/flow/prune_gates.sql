-- Delete gates that are as new again, so that keys that come and go leave nothing behind. Nothing is waited for;
-- one that a claim needs after all is made anew. Returns how many.
WITH old AS MATERIALIZED (
  SELECT g.ctid AS at
  FROM pgjobs.gates AS g
  WHERE g.used_at < pg_catalog.now() - interval '1 minute'
    AND coalesce(g.full_at, 0::double precision) <= extract(epoch FROM pg_catalog.now())::double precision
    AND (pg_catalog.cardinality(g.times) = 0 OR g.used_at < pg_catalog.now() - coalesce((
      SELECT pg_catalog.max(f.period) FROM pgjobs.flows AS f
      WHERE f.flow = pg_catalog.split_part(g.gate, '=', 1)), 0::double precision) * 1.02::double precision * interval '1 second')
    AND NOT EXISTS (
      SELECT
      FROM unnest(g.jobs, g.attempts) AS h (job, attempt)
      WHERE h.attempt = (
        SELECT j.attempt
        FROM pgjobs.jobs AS j
        WHERE j.id = h.job AND j.claimed_by IS NOT NULL AND j.message IS NOT NULL))
  ORDER BY g.gate, g.turn
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM pgjobs.gates AS g WHERE g.ctid = ANY (ARRAY(SELECT o.at FROM old AS o)) RETURNING g.gate
)
SELECT pg_catalog.count(*) FROM gone
