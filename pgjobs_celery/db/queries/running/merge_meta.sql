-- What the running task notes of its job: keys set and keys removed; the others stay as they are,
-- for somebody else may set them meanwhile. What a hand has made no object of counts as empty.
UPDATE pgjobs.jobs AS j
SET meta = (CASE WHEN pg_catalog.jsonb_typeof(j.meta) = 'object' THEN j.meta ELSE '{}' END
            || %(patch)s::jsonb) - %(removed)s::text[]
WHERE j.task_id = %(task_id)s
  AND j.attempt = %(attempt)s::integer
  AND j.claimed_by = %(node)s::uuid
RETURNING j.meta
