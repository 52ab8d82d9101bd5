-- Read a job's meta. A value that was written by hand and is not an object counts as empty.
SELECT CASE WHEN pg_catalog.jsonb_typeof(j.meta) = 'object' THEN j.meta ELSE '{}' END
FROM pgjobs.jobs AS j
WHERE j.task_id = %(task_id)s
