-- Tasks of a header that have not finished; among so many of its first.
SELECT m.task_id, m.state
FROM (
  SELECT j.task_id, j.state, j.group_index, j.finished_at
  FROM pgjobs.jobs AS j
  WHERE j.group_id = %(group_id)s
    AND j.group_index IS NOT NULL
  ORDER BY j.group_index
  LIMIT %(depth)s::bigint
) AS m
WHERE m.finished_at IS NULL
ORDER BY m.group_index
LIMIT %(limit)s::bigint
