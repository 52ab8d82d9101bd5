-- Make room in a full queue: of the jobs of the least urgent rank those that wait longest are cancelled, and
-- their rows say why. Those of the line and those in lanes are looked at apart, for their priorities are
-- (rank + 256). Jobs that another transaction holds are left to it.
WITH least_urgent AS MATERIALIZED (
  SELECT (SELECT j.priority
          FROM pgjobs.jobs AS j
          WHERE j.queue = %(queue)s AND j.priority <= 255 AND j.finished_at IS NULL AND j.due_at IS NULL
            AND j.claimed_by IS NULL AND j.message IS NOT NULL
          ORDER BY j.priority DESC, j.seq DESC
          LIMIT 1) AS line,
         (SELECT j.priority
          FROM pgjobs.jobs AS j
          WHERE j.queue = %(queue)s AND j.priority > 255 AND j.finished_at IS NULL AND j.due_at IS NULL
            AND j.claimed_by IS NULL AND j.message IS NOT NULL
          ORDER BY j.priority DESC, j.seq DESC
          LIMIT 1) AS lane
), oldest AS MATERIALIZED (
  SELECT f.id
  FROM least_urgent AS u
  CROSS JOIN LATERAL (
    VALUES (u.line), (u.lane)
  ) AS p (priority)
  CROSS JOIN LATERAL (
    SELECT j.id, j.seq
    FROM pgjobs.jobs AS j
    WHERE j.queue = %(queue)s
      AND j.priority = p.priority
      AND j.finished_at IS NULL
      AND j.due_at IS NULL
      AND j.claimed_by IS NULL
      AND j.message IS NOT NULL
    ORDER BY j.seq
    LIMIT %(count)s::bigint
  ) AS f
  WHERE p.priority & 255 = greatest(u.line & 255, u.lane & 255)
  ORDER BY f.seq
  LIMIT %(count)s::bigint
), locked AS MATERIALIZED (
  SELECT j.ctid AS at
  FROM pgjobs.jobs AS j
  WHERE j.id = ANY (ARRAY(SELECT o.id FROM oldest AS o))
    AND j.finished_at IS NULL
    AND j.claimed_by IS NULL
  FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE pgjobs.jobs AS j
SET state = 'cancelled',
    finished_at = pg_catalog.now(),
    due_at = NULL,
    reported_state = NULL,
    result = NULL,
    result_type = NULL,
    traceback = NULL,
    errors = pgjobs.with_error(j.errors, pg_catalog.jsonb_build_object(
      'attempt', j.attempt, 'at', pg_catalog.now(), 'type', 'QueueFull',
      'message', 'dropped for a newer job: queue ' || j.queue || ' was full (max_depth '
                 || %(max_depth)s::integer::text || ')')),
    fingerprint = NULL,
    failed_at = NULL
WHERE j.ctid = ANY (ARRAY(SELECT l.at FROM locked AS l))
RETURNING j.task_id
