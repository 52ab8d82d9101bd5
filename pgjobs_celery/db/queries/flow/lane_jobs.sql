-- Sort the jobs at the head of a line into lanes, by the rules of the queue: who published them did not know these.
-- Only rules with a path, or without a key; a key that is not found is null, as at publish. The trigger tells
-- the lanes. 60 us a job.
WITH rules AS MATERIALIZED (
  SELECT DISTINCT ON (f.flow) f.flow, f.amount, f.by
  FROM pgjobs.flows AS f
  WHERE f.flow IN ('rate/queue/' || %(flow)s::text, 'running/queue/' || %(flow)s::text)
  ORDER BY f.flow, f.source DESC
), line AS MATERIALIZED (
  SELECT o.ctid AS at, o.body
  FROM pgjobs.jobs AS o
  WHERE o.queue = %(queue)s
    AND o.priority <= 255
    AND o.finished_at IS NULL
    AND o.due_at IS NULL
    AND o.claimed_by IS NULL
    AND o.message IS NOT NULL
  ORDER BY o.priority, o.seq
  LIMIT %(limit)s::bigint
  FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE pgjobs.jobs AS j
SET priority = j.priority + 256,
    lane = p.lane
FROM (
  SELECT n.at, (
      SELECT pg_catalog.string_agg(m.line, E'\n' ORDER BY m.part, m.line COLLATE "C")
      FROM (
        SELECT 1 AS part,
               r.flow || CASE WHEN r.by IS NULL THEN '' ELSE '=' || pgjobs.path_key(b.body, r.by) END AS line
        FROM rules AS r
        WHERE r.amount IS NOT NULL
          AND r.by IS DISTINCT FROM '()'
        UNION ALL
        SELECT 2, 'share=' || pgjobs.path_key(b.body, l.fair_by)
        FROM pgjobs.limits AS l
        WHERE l.queue = %(queue)s
          AND l.fair_by IS NOT NULL
      ) AS m
    ) AS lane
  FROM line AS n
  CROSS JOIN LATERAL (SELECT pgjobs.body_json(n.body) AS body) AS b
) AS p
WHERE j.ctid = p.at
  AND p.lane IS NOT NULL
