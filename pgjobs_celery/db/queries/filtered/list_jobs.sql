-- on match_jobs
-- JSON comes as text, and times only where Python can hold them, so that a row that was written by hand
-- does not hide the others.
SELECT j.id, j.task_id, j.task, j.queue, j.state, j.attempt, j.max_attempts, j.priority & 255::smallint, j.tags,
       j.meta::text, (b.body -> 0)::text, (b.body -> 1)::text, j.errors::text,
       CASE WHEN j.inserted_at BETWEEN t.first AND t.last THEN j.inserted_at END,
       CASE WHEN j.scheduled_at BETWEEN t.first AND t.last THEN j.scheduled_at END,
       CASE WHEN j.attempted_at BETWEEN t.first AND t.last THEN j.attempted_at END,
       CASE WHEN j.finished_at BETWEEN t.first AND t.last THEN j.finished_at END,
       j.attempted_by, j.root_id, j.parent_id, j.group_id,
       CASE WHEN j.cancel_requested_at BETWEEN t.first AND t.last THEN j.cancel_requested_at END,
       j.cancel_reason, j.superseded_by,
       e.message #>> '{headers,retries}', e.message #>> '{headers,pgjobs,max_attempts}' IS NOT NULL,
       j.fingerprint, j.lane, j.cost, e.message #>> '{headers,pgjobs,idempotency_key}'
FROM matched AS m
JOIN pgjobs.jobs AS j ON j.id = m.id
CROSS JOIN LATERAL (SELECT pgjobs.body_json(j.body) AS body OFFSET 0) AS b
CROSS JOIN LATERAL (
  SELECT pgjobs.body_json(pg_catalog.convert_to(j.message, 'UTF8')) AS message OFFSET 0
) AS e
CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
