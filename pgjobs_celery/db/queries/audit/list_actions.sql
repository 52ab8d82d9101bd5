-- Actions, the newest first: one in batches is its first row, with the jobs of all of them. Along audit_at
-- or, for one queue, audit_queue; a job is found by its id, and by the time of its end where the row of a
-- batch does not name it. Planned anew for each call, or the filters that are NULL would use no index.
WITH of_job AS MATERIALIZED (
  SELECT b.action_id
  FROM pgjobs.audit AS b
  WHERE b.task_ids OPERATOR(pg_catalog.@>) ARRAY[%(job)s::text]
  UNION
  SELECT b.action_id
  FROM pgjobs.jobs AS j
  JOIN pgjobs.audit AS b ON b.at IN (
    j.finished_at, j.cancel_requested_at,
    -- The end of a job that waited is the clock's; its error has the time of the transaction.
    CASE WHEN j.errors #>> '{-1,at}'::text[] ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+[-+][0-9:]+$'::text
         THEN (j.errors #>> '{-1,at}'::text[])::timestamptz END)
  WHERE j.task_id = %(job)s::text
    AND b.action IN ('cancel_jobs', 'purge_queue', 'delete_queue', 'drop_jobs')
    AND b.jobs > pg_catalog.cardinality(b.task_ids)
)
SELECT a.id, least(greatest(a.at, t.first), t.last), a.action, a.actor, a.via, a.client, a.role,
       pg_catalog.host(a.address), a.queue, a.app, a.schedule, a.jobs::bigint + coalesce(r.jobs, 0),
       a.task_ids, a.filters, a.details::text
FROM pgjobs.audit AS a
CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
LEFT JOIN LATERAL (
  SELECT pg_catalog.sum(b.jobs) AS jobs
  FROM pgjobs.audit AS b
  WHERE b.action_id = a.action_id AND b.batch > 0
) AS r ON true
WHERE a.batch = 0
  AND (%(job)s::text IS NULL OR a.action_id IN (SELECT o.action_id FROM of_job AS o))
  AND (%(actors)s::text[] IS NULL OR a.actor = ANY (%(actors)s::text[]))
  AND (%(actions)s::text[] IS NULL OR a.action = ANY (%(actions)s::text[]))
  AND (%(queue)s::text IS NULL OR a.queue = %(queue)s::text)
  AND (%(schedule)s::text IS NULL OR a.schedule = %(schedule)s::text)
  AND (%(since)s::timestamptz IS NULL OR a.at >= %(since)s::timestamptz)
  AND (%(age)s::double precision IS NULL
       OR a.at >= pg_catalog.now() - %(age)s::double precision * interval '1 second')
  AND (%(before_id)s::bigint IS NULL
       OR (a.at, a.id) < (%(before_at)s::timestamptz, %(before_id)s::bigint))
ORDER BY a.at DESC, a.id DESC
LIMIT %(limit)s::bigint
