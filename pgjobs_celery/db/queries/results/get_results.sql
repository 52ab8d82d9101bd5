-- The subselect hides the length of the array: a plan of its own for each length costs 0.1 ms a call.
-- A time that Python cannot hold, written by hand, reads as NULL. message and body are read only where
-- args and kwargs were asked for (result_extended): they may be large.
SELECT j.task_id, j.state, j.reported_state, j.result, j.result_type, j.traceback, j.children,
       CASE WHEN j.finished_at BETWEEN '0001-01-03' AND '9999-12-29' THEN j.finished_at END,
       j.group_id, j.parent_id, j.task, j.queue, j.attempted_by, j.attempt,
       j.errors -> -1,
       CASE WHEN %(extended)s::boolean THEN j.message END,
       CASE WHEN %(extended)s::boolean THEN j.body END
FROM pgjobs.jobs AS j
WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(task_ids)s::text[])))
