-- Pauses that have no end, and rules for which jobs wait that none can begin by: one that allows nothing, and
-- one that counts by an argument which none of the jobs has. Reads the lanes in which jobs wait, so many of them.
(SELECT 'pause', p.kind, p.name, p.queue,
        extract(epoch FROM pg_catalog.now() - least(greatest(p.paused_at, '0001-01-03'), '9999-12-29'))::float8
 FROM pgjobs.pauses AS p
 WHERE p.until IS NULL
 ORDER BY p.paused_at
 LIMIT %(limit)s::bigint)
UNION ALL
(SELECT CASE WHEN w.amount = 0 THEN 'none' ELSE 'key' END, coalesce(w.by, ''), w.flow, pg_catalog.min(w.queue),
        pg_catalog.count(*)::float8
 FROM (
   SELECT l.queue, r.flow, r.amount, r.by, pg_catalog.split_part(g.gate, '=', 2) AS key
   FROM (SELECT a.queue, a.gates FROM pgjobs.lanes AS a LIMIT %(depth)s::bigint) AS l
   CROSS JOIN LATERAL pg_catalog.unnest(l.gates) AS g (gate)
   CROSS JOIN LATERAL (
     SELECT f.flow, f.amount, f.by
     FROM pgjobs.flows AS f
     WHERE f.flow = pg_catalog.split_part(g.gate, '=', 1)
     ORDER BY f.source DESC
     LIMIT 1
   ) AS r
 ) AS w
 GROUP BY w.flow, w.amount, w.by
 HAVING w.amount = 0
     OR w.by IS NOT NULL AND pg_catalog.bool_and(w.key = 'null')
 ORDER BY w.flow
 LIMIT %(limit)s::bigint)
