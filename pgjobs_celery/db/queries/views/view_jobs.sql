-- Jobs as their pages show them, by the unique index. What may be large comes up to so many bytes,
-- with its size: as bytes, for a number of any size must come out as it went in, and no serializer but
-- plain JSON is read. Times that Python cannot hold become the nearest that it can.
SELECT j.id, j.task_id, j.task, j.queue, j.state, j.attempt, j.max_attempts, j.priority & 255::smallint, j.tags,
       -- Small as it is stored, compressed, and then as it is read.
       CASE WHEN pg_catalog.pg_column_size(j.meta) <= %(most)s::bigint
                 AND pg_catalog.octet_length(j.meta::text) <= %(most)s::bigint
            THEN j.meta::text END,
       CASE WHEN pg_catalog.octet_length(j.message) <= %(most)s::bigint THEN j.message END,
       pg_catalog.octet_length(j.body)::bigint,
       CASE WHEN pg_catalog.octet_length(j.body) <= %(most)s::bigint THEN j.body END,
       pg_catalog.octet_length(j.result)::bigint,
       CASE WHEN pg_catalog.octet_length(j.result) <= %(most)s::bigint THEN j.result END,
       j.result_type, j.reported_state, pg_catalog.left(j.traceback, %(most)s::integer),
       CASE WHEN pg_catalog.pg_column_size(j.errors) <= %(most)s::bigint
                 AND pg_catalog.octet_length(j.errors::text) <= %(most)s::bigint
            THEN j.errors::text END,
       j.root_id, j.parent_id, j.group_id, j.attempted_by, j.cancel_reason, j.cancel_signal,
       j.superseded_by, j.redelivered, j.acks_late, j.unique_key IS NOT NULL,
       pgjobs.body_json(pg_catalog.convert_to(j.message, 'UTF8'))
         #>> '{headers,pgjobs,idempotency_key}',
       least(greatest(j.inserted_at, t.first), t.last),
       least(greatest(j.scheduled_at, t.first), t.last),
       CASE WHEN j.due_at IS NOT NULL THEN least(greatest(j.due_at, t.first), t.last) END,
       CASE WHEN j.attempted_at IS NOT NULL
            THEN least(greatest(j.attempted_at, t.first), t.last) END,
       CASE WHEN j.finished_at IS NOT NULL
            THEN least(greatest(j.finished_at, t.first), t.last) END,
       CASE WHEN j.expires_at IS NOT NULL
            THEN least(greatest(j.expires_at, t.first), t.last) END,
       CASE WHEN j.cancel_requested_at IS NOT NULL
            THEN least(greatest(j.cancel_requested_at, t.first), t.last) END,
       pg_catalog.now()
FROM pgjobs.jobs AS j
CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(ids)s::text[])))
