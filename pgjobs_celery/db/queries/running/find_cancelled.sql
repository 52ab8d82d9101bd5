-- The jobs among those that a node holds that must be cancelled.
SELECT j.id, j.task_id, coalesce(j.cancel_reason, 'revoked'), j.cancel_signal
FROM pgjobs.jobs AS j
WHERE j.id = ANY (%(ids)s::bigint[])
  AND j.claimed_by = %(node)s::uuid
  AND j.cancel_requested_at IS NOT NULL
