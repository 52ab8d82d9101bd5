-- Jobs that this node has just claimed and that are paused go back in line, at their place and without the
-- attempt, each in a lane that is shut for as long as the pause holds; fenced as settle_completed is. One that
-- must be cancelled is not parked: its worker sees to that.
UPDATE pgjobs.jobs AS j
SET state = 'available',
    attempt = greatest(j.attempt - 1, 0),
    claimed_by = NULL,
    lane = s.lane,
    priority = (j.priority & 255) + 256
FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(lanes)s::text[]) AS s (id, attempt, lane)
WHERE j.id = s.id
  AND j.attempt = s.attempt
  AND j.claimed_by = %(node)s::uuid
  AND j.cancel_requested_at IS NULL
RETURNING j.id
