-- The action that has cancelled a job or paused a queue: its transaction wrote the time that the row of
-- that shows, to the microsecond. A batch of many jobs names the first of them only.
SELECT a.actor, a.action, a.via
FROM pgjobs.audit AS a
WHERE a.at = ANY (%(times)s::timestamptz[])
  AND a.action = ANY (%(actions)s::text[])
  AND (%(queue)s::text IS NULL OR a.queue = %(queue)s::text)
  AND (%(task_id)s::text IS NULL
       OR a.jobs > pg_catalog.cardinality(a.task_ids)
       OR a.task_ids OPERATOR(pg_catalog.@>) ARRAY[%(task_id)s::text])
ORDER BY a.at DESC, a.id DESC
LIMIT 1
