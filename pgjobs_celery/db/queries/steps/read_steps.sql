-- The memory of a running job, once for each run: all that its steps have returned so far. A job without any
-- gives one row; nothing, where its claim is lost. The job first, whatever the statistics say.
SELECT j.id, s.name, s.kind, s.value, s.value_type
FROM pgjobs.jobs AS j
LEFT JOIN LATERAL (
  SELECT t.name, t.kind, t.value, t.value_type
  FROM pgjobs.steps AS t
  WHERE t.job = j.id
  ORDER BY t.recorded_at, t.name
) AS s ON true
WHERE j.task_id = %(task_id)s
  AND j.attempt = %(attempt)s::integer
  AND j.claimed_by = %(node)s::uuid
