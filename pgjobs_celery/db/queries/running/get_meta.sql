-- What a hand has made no object of counts as empty.
SELECT CASE WHEN pg_catalog.jsonb_typeof(j.meta) = 'object' THEN j.meta ELSE '{}' END
FROM pgjobs.jobs AS j
WHERE j.task_id = %(task_id)s
