-- A job as explain looks at it, with the node that holds it and the limits of its queue, by the clock of
-- the server. Times that Python cannot hold become the nearest that it can. One row, by the unique index;
-- the nodes that live are counted up to 1,000.
SELECT j.task_id, j.task, j.queue, j.state, j.attempt, j.max_attempts, j.priority, j.seq,
       j.message IS NOT NULL, j.acks_late, j.reported_state, j.attempted_by, pg_catalog.now(),
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
       j.cancel_reason, j.superseded_by,
       CASE WHEN pg_catalog.jsonb_typeof(j.errors -> -1) = 'object'
            THEN ((j.errors -> -1) - 'traceback'::text)::text END,
       n.name,
       CASE WHEN n.node IS NOT NULL THEN least(greatest(n.heartbeat_at, t.first), t.last) END,
       n.lease,
       CASE WHEN l.paused_at IS NOT NULL THEN least(greatest(l.paused_at, t.first), t.last) END,
       l.concurrency,
       (SELECT pg_catalog.count(*)
        FROM (SELECT
              FROM pgjobs.nodes AS a
              WHERE a.heartbeat_at > pg_catalog.now() - a.lease * interval '1 second'
              LIMIT 1000) AS alive),
       j.lane, j.tags, l.fair_by,
       CASE WHEN l.paused_until IS NOT NULL
            THEN least(greatest(l.paused_until, t.first), t.last) END
FROM pgjobs.jobs AS j
LEFT JOIN pgjobs.nodes AS n ON n.node = j.claimed_by
LEFT JOIN pgjobs.limits AS l ON l.queue = j.queue
CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
WHERE j.task_id = %(task_id)s
