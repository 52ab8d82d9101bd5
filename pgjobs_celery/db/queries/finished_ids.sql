-- Which of these have finished: what a waiter asks before it waits and after it was woken.
SELECT j.task_id
FROM pgjobs.jobs AS j
WHERE j.task_id = ANY (%(task_ids)s::text[])
  AND j.finished_at IS NOT NULL
