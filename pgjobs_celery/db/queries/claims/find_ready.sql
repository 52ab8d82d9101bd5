-- The queues among these in which a claim would find a job at once. Locked jobs do not count, and
-- neither do paused queues and queues with a limit.
SELECT q.queue
FROM pg_catalog.unnest(%(queues)s::text[]) AS q (queue)
CROSS JOIN LATERAL (
  SELECT r.id
  FROM pgjobs.jobs AS r
  WHERE r.queue = q.queue
    AND r.finished_at IS NULL
    AND r.due_at IS NULL
    AND r.claimed_by IS NULL
    -- Not of its lanes.
    AND r.priority <= 255
  ORDER BY r.priority, r.seq
  LIMIT 1
  FOR NO KEY UPDATE SKIP LOCKED
) AS s
WHERE NOT EXISTS (
  SELECT
  FROM pgjobs.limits AS l
  WHERE l.queue = q.queue
    AND (l.paused_at IS NOT NULL OR l.concurrency IS NOT NULL)
)
