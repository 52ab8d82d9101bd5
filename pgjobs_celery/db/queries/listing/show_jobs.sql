-- Jobs as a list for people shows them. Of what may be large only the beginning: a body of more than 64 KiB is not
-- read, nor are tracebacks. Whatever was written by hand comes as text, and times only where Python can
-- hold them.
SELECT j.id, j.task_id, j.task, j.queue, j.state, j.attempt, j.max_attempts, j.priority & 255::smallint,
       ARRAY(SELECT g.tag FROM pg_catalog.unnest(j.tags) AS g (tag) WHERE g.tag IS NOT NULL),
       -- Small as it is stored, compressed, and then as it is read.
       CASE WHEN pg_catalog.pg_column_size(j.meta) <= 8192 AND pg_catalog.octet_length(j.meta::text) <= 8192
            THEN j.meta::text END,
       (b.body -> 0)::text, (b.body -> 1)::text, pg_catalog.octet_length(j.body),
       pg_catalog.left(j.errors #>> '{-1,type}'::text[], 200),
       pg_catalog.left(j.errors #>> '{-1,message}'::text[], 300),
       CASE WHEN j.inserted_at BETWEEN t.first AND t.last THEN j.inserted_at END,
       CASE WHEN j.scheduled_at BETWEEN t.first AND t.last THEN j.scheduled_at END,
       CASE WHEN j.attempted_at BETWEEN t.first AND t.last THEN j.attempted_at END,
       CASE WHEN j.finished_at BETWEEN t.first AND t.last THEN j.finished_at END,
       j.attempted_by, j.cancel_requested_at IS NOT NULL, j.reported_state,
       CASE WHEN j.finished_at IS NULL AND pg_catalog.octet_length(j.result) <= 4096
            THEN pgjobs.body_json(j.result)::text END,
       j.message IS NOT NULL
FROM pgjobs.jobs AS j
CROSS JOIN LATERAL (
  SELECT CASE WHEN pg_catalog.octet_length(j.body) <= 65536 THEN pgjobs.body_json(j.body) END AS body OFFSET 0
) AS b
CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
WHERE j.id = ANY (%(ids)s::bigint[])
