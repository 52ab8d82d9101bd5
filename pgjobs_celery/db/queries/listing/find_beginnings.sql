-- The task ids that begin so, as far as they are among so many from there on: an index on texts is in the
-- order of a language, in which a prefix is not a range, but what begins with it stands close behind it.
SELECT n.task_id
FROM (
  SELECT j.task_id
  FROM pgjobs.jobs AS j
  WHERE j.task_id >= %(beginning)s::text
  ORDER BY j.task_id
  LIMIT %(depth)s::bigint
) AS n
WHERE pg_catalog.starts_with(n.task_id, %(beginning)s::text)
LIMIT %(limit)s::bigint
