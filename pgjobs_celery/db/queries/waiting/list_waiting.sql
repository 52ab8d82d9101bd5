-- Jobs that wait for their time in these queues, nearest first: for `inspect scheduled` and
-- `query_task`. Looks at so many of the nearest and no further, whatever queues they are for: remote
-- control is answered from the event loop. A body that is too long to be shown is left out.
SELECT j.task_id, j.queue, j.due_at, j.priority & 255::smallint, j.message,
       CASE WHEN pg_catalog.octet_length(j.body) <= %(longest)s::integer THEN j.body END
FROM (
  SELECT n.*
  FROM pgjobs.jobs AS n
  WHERE n.finished_at IS NULL
    AND n.due_at IS NOT NULL
    AND n.due_at < 'infinity'
  ORDER BY n.due_at, n.id
  LIMIT %(depth)s::integer
) AS j
WHERE j.queue = ANY (%(queues)s::text[])
  AND j.message IS NOT NULL
  AND j.due_at BETWEEN '0001-01-03' AND '9999-12-29'
ORDER BY j.due_at, j.id
LIMIT %(limit)s::integer
