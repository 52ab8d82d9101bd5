UPDATE pgjobs.limits AS l
SET paused_at = NULL,
    paused_until = NULL
WHERE l.queue = %(queue)s
  AND l.paused_at IS NOT NULL
RETURNING l.queue
