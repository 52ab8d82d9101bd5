-- The results of a chord's header, in the order of its tasks; columns as in get_results, after root_id.
SELECT j.root_id, j.task_id, j.state, j.reported_state, j.result, j.result_type, j.traceback, j.children,
       j.finished_at, j.group_id, j.parent_id, j.task, j.queue, j.attempted_by, j.attempt,
       j.errors -> -1, NULL, NULL
FROM pgjobs.jobs AS j
WHERE j.group_id = %(group_id)s
  AND j.group_index IS NOT NULL
  AND j.finished_at IS NOT NULL
ORDER BY j.group_index, j.id
