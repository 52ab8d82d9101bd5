-- When a connection breaks between a claim's commit and its answer, this node holds jobs that it does
-- not know of, and no other node may touch them while it lives. They never started. A job that was
-- cancelled meanwhile, or was replaced by another one, is cancelled.
UPDATE pgjobs.jobs AS j
SET state = pgjobs.settled_state(j, 'available', false),
    attempt = greatest(j.attempt - 1, 0),
    finished_at = CASE WHEN pgjobs.settled_state(j, 'available', false) = 'cancelled' THEN pg_catalog.now() END,
    redelivered = true,
    claimed_by = NULL,
    -- As it is: its lane hears of it (note_return).
    lane = j.lane,
    errors = CASE WHEN pgjobs.settled_state(j, 'available', false) = 'cancelled'
                  THEN pgjobs.settled_error(j, 'cancelled', NULL)
                  ELSE j.errors END
WHERE j.queue = ANY (%(queues)s::text[])
  AND j.finished_at IS NULL
  AND j.due_at IS NULL
  AND j.claimed_by = %(node)s::uuid
  AND j.id <> ALL (%(known)s::bigint[])
RETURNING j.id
