-- How far a job is, for a run that may have completed it: whether that run still holds it, or has
-- completed it. No row: it was deleted.
SELECT j.attempt = %(attempt)s::integer AND j.claimed_by = %(node)s::uuid AND j.finished_at IS NULL,
       j.attempt = %(attempt)s::integer AND j.state = 'completed' AND j.claimed_by IS NULL
FROM pgjobs.jobs AS j
WHERE j.task_id = %(task_id)s
