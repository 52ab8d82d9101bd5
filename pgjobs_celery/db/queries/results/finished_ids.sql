-- The ids among these whose jobs have finished: a waiter asks this before it waits and after it was
-- woken.
-- By state, because finished_at IS NOT NULL would let the planner walk jobs_finished. The subselect
-- hides the length of the array: a plan of its own for each length costs 0.1 ms a call.
SELECT j.task_id
FROM pgjobs.jobs AS j
WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(task_ids)s::text[])))
  AND j.state IN ('completed', 'discarded', 'cancelled')
