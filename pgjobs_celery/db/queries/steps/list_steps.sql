-- The steps that a job has done, in their order. A value that is too large to be shown is told by its size.
SELECT s.name, s.kind, CASE WHEN pg_catalog.octet_length(s.value) <= %(largest)s::integer THEN s.value END,
       s.value_type, pg_catalog.octet_length(s.value), s.attempt, s.recorded_at
FROM pgjobs.steps AS s
WHERE s.job = (SELECT j.id FROM pgjobs.jobs AS j WHERE j.task_id = %(task_id)s)
ORDER BY s.recorded_at, s.name
LIMIT %(limit)s::bigint
