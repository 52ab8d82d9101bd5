-- The head of a queue's line: so many of the jobs that run or may run, in the order of claims, and no further.
SELECT j.task_id, j.task, j.priority, j.seq, j.claimed_by, j.attempted_by, j.attempted_at,
       j.message IS NOT NULL AS has_message
FROM pgjobs.jobs AS j
WHERE j.queue = %(queue)s
  AND j.finished_at IS NULL
  AND j.due_at IS NULL
ORDER BY j.priority, j.seq
LIMIT %(depth)s::bigint
