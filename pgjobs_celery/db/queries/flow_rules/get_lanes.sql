-- The lanes and costs of jobs, by their ids.
SELECT j.task_id, j.lane, j.cost
FROM pgjobs.jobs AS j
WHERE j.task_id = ANY (%(task_ids)s::text[])
