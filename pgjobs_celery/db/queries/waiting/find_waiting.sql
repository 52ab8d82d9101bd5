-- As list_waiting, by id.
SELECT j.task_id, j.queue, j.due_at, j.priority & 255::smallint, j.message,
       CASE WHEN pg_catalog.octet_length(j.body) <= %(longest)s::integer THEN j.body END
FROM pgjobs.jobs AS j
WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(task_ids)s::text[])))
  AND j.finished_at IS NULL
  AND j.queue = ANY (%(queues)s::text[])
  AND j.message IS NOT NULL
  AND j.due_at BETWEEN '0001-01-03' AND '9999-12-29'
