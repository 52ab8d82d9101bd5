-- Keys that the running task sets and removes in its job's meta; the others stay as they are, because
-- another process may set them meanwhile. A value that was written by hand and is not an object counts
-- as empty.
UPDATE pgjobs.jobs AS j
SET meta = (CASE WHEN pg_catalog.jsonb_typeof(j.meta) = 'object' THEN j.meta ELSE '{}' END
            || %(patch)s::jsonb) - %(removed)s::text[]
WHERE j.task_id = %(task_id)s
  AND j.attempt = %(attempt)s::integer
  AND j.claimed_by = %(node)s::uuid
RETURNING j.meta
