-- The jobs of a queue that run, those that were claimed first; as explain_line, among so many entries
-- from the head of the line.
SELECT q.task_id, q.task, q.attempted_by,
       CASE WHEN q.attempted_at IS NOT NULL
            THEN least(greatest(q.attempted_at, '0001-01-03'), '9999-12-29') END
FROM (
  SELECT j.task_id, j.task, j.attempted_by, j.attempted_at, j.claimed_by, j.message IS NOT NULL AS has_message
  FROM pgjobs.jobs AS j
  WHERE j.queue = %(queue)s
    AND j.finished_at IS NULL
    AND j.due_at IS NULL
  ORDER BY j.priority, j.seq
  LIMIT %(depth)s::bigint
) AS q
WHERE q.claimed_by IS NOT NULL
  AND q.has_message
ORDER BY q.attempted_at
LIMIT %(limit)s::bigint
