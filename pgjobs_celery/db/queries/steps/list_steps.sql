-- The steps that jobs have done, in their order.
SELECT s.job, s.name, s.kind, s.value, s.value_type, s.attempt, s.recorded_at
FROM pgjobs.steps AS s
WHERE s.job = ANY (%(jobs)s::bigint[])
ORDER BY s.job, s.recorded_at, s.name
LIMIT %(limit)s::bigint
