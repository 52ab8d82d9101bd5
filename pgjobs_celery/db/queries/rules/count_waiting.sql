-- How many jobs wait at each gate, those of most first; in so many lanes, up to so many of each. All flows, or
-- those named.
SELECT w.flow, w.gate, pg_catalog.sum(w.jobs)::bigint, pg_catalog.bool_or(w.jobs >= %(depth)s::bigint)
FROM (
  SELECT pg_catalog.split_part(g.gate, '=', 1) AS flow, g.gate, h.jobs
  FROM (
    SELECT l.queue, l.lane, l.gates
    FROM pgjobs.lanes AS l
    WHERE %(flows)s::text[] IS NULL
       OR EXISTS (SELECT FROM pg_catalog.unnest(l.gates) AS e (gate)
                  WHERE pg_catalog.split_part(e.gate, '=', 1) = ANY (%(flows)s::text[]))
    LIMIT %(lanes)s::bigint
  ) AS l
  CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS jobs
    FROM (SELECT
          FROM pgjobs.jobs AS j
          WHERE j.queue = l.queue
            AND j.lane = l.lane
            AND j.finished_at IS NULL
            AND j.due_at IS NULL
            AND j.claimed_by IS NULL
          ORDER BY j.queue, j.lane, j.priority, j.seq
          LIMIT %(depth)s::bigint) AS f
  ) AS h
  CROSS JOIN pg_catalog.unnest(l.gates) AS g (gate)
  WHERE h.jobs > 0
) AS w
WHERE %(flows)s::text[] IS NULL
   OR w.flow = ANY (%(flows)s::text[])
GROUP BY w.flow, w.gate
ORDER BY 3 DESC, w.gate
LIMIT %(limit)s::bigint
