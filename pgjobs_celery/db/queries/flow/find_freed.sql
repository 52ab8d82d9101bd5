-- The queues in whose lanes others wait for places that these jobs, which have just ended, held: their workers are
-- woken. Asked only by who ended jobs from lanes and does not look at these lanes in the same transaction, for
-- that takes the places itself. One that was replaced (no message) has ended here, too. A limit of each worker by itself is no other's business.
-- 0.2 ms. Most wait in the same lane; of others no more than so many are looked at, 0.4 us each.
SELECT e.queue
FROM (
  SELECT j.queue, pg_catalog.array_agg(g.gate) AS gates, pg_catalog.array_agg(j.lane) AS lanes,
         pg_catalog.array_agg(coalesce(pg_catalog.substring(j.lane, '(?:^|\n)(share=[^\n]*)'), '')) AS shares
  FROM pgjobs.jobs AS j
  CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.string_to_array(j.lane, E'\n')) AS g (gate)
  WHERE j.id = ANY (%(ids)s::bigint[])
    AND (j.claimed_by IS NULL OR j.message IS NULL)
    AND pg_catalog.starts_with(g.gate, 'running/')
    AND EXISTS (
      SELECT FROM pgjobs.flows AS f
      WHERE f.flow = pg_catalog.split_part(g.gate, '=', 1)
        AND f.scope = 'global')
  GROUP BY j.queue
) AS e
WHERE EXISTS (
  SELECT
  FROM unnest(e.shares, e.lanes) AS u (share, lane)
  CROSS JOIN LATERAL (
    SELECT
    FROM pgjobs.lanes AS l
    WHERE l.queue = e.queue
      AND l.share = u.share
      AND l.lane = u.lane
      AND l.shut_until = 'infinity'
    LIMIT 1
  ) AS l
)
OR EXISTS (
  SELECT
  FROM (
    SELECT l.gates
    FROM pgjobs.lanes AS l
    WHERE l.queue = e.queue
      AND l.shut_until = 'infinity'
    LIMIT %(limit)s::bigint
  ) AS l
  WHERE l.gates OPERATOR(pg_catalog.&&) e.gates
)
-- Lanes whose common gate is shut are not marked.
OR EXISTS (
  SELECT
  FROM (
    SELECT r.commons FROM pgjobs.rounds AS r WHERE r.queue = e.queue ORDER BY r.turn DESC LIMIT 1
  ) AS r
  CROSS JOIN LATERAL pg_catalog.unnest(r.commons) AS c (common)
  WHERE pg_catalog.string_to_array(c.common, E'\n') OPERATOR(pg_catalog.&&) e.gates
)
