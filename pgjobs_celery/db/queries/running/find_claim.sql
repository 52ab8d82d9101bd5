-- Whether a running task still holds its job, and whether it may go on.
SELECT 1
FROM pgjobs.jobs AS j
WHERE j.task_id = %(task_id)s
  AND j.attempt = %(attempt)s::integer
  AND j.claimed_by = %(node)s::uuid
  AND j.cancel_requested_at IS NULL
