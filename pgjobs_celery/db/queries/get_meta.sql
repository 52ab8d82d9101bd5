SELECT j.meta
FROM pgjobs.jobs AS j
WHERE j.task_id = %(task_id)s
