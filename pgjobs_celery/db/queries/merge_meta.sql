-- What the running task notes of its job: keys set and keys removed; the others stay as they are,
-- for somebody else may set them meanwhile.
UPDATE pgjobs.jobs AS j
SET meta = (j.meta || %(patch)s::jsonb) - %(removed)s::text[]
WHERE j.task_id = %(task_id)s
  AND j.attempt = %(attempt)s::integer
  AND j.claimed_by = %(node)s::uuid
RETURNING j.meta
