-- The memory of a running job, once for each run: all that its steps have returned so far, what it waits
-- for, and how often it was interrupted. A job without any gives one row. Nothing, where its claim is lost.
SELECT j.id, s.name, s.kind, s.value, s.value_type
FROM pgjobs.jobs AS j
LEFT JOIN pgjobs.steps AS s ON s.job = j.id
WHERE j.task_id = %(task_id)s
  AND j.attempt = %(attempt)s::integer
  AND j.claimed_by = %(node)s::uuid
ORDER BY s.recorded_at, s.name
