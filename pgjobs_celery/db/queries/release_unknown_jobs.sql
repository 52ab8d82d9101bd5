-- When a connection breaks between a claim's commit and its answer, this node holds jobs that it
-- does not know of; nobody else may touch them while it lives. They never started.
UPDATE pgjobs.jobs AS j
SET state = 'available',
    attempt = greatest(j.attempt - 1, 0),
    redelivered = true,
    claimed_by = NULL
WHERE j.queue = ANY (%(queues)s::text[])
  AND j.finished_at IS NULL
  AND j.due_at IS NULL
  AND j.claimed_by = %(node)s::uuid
  AND j.id <> ALL (%(known)s::bigint[])
RETURNING j.id
