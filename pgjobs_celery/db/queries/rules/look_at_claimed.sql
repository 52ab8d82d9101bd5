-- By which of its properties a job that this node has just claimed may be paused.
SELECT j.id, j.attempt, j.task, j.queue, j.tags, j.lane
FROM pgjobs.jobs AS j
WHERE j.id = ANY (%(ids)s::bigint[])
  AND j.claimed_by = %(node)s::uuid
