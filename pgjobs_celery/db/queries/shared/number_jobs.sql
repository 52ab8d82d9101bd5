-- The row numbers of ids: an id that runs again has another row.
SELECT j.task_id, j.id
FROM pgjobs.jobs AS j
WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(task_ids)s::text[])))
