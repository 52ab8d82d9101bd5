-- Take what is ready, in the order of the buckets and within one by (priority, seq).
-- A bucket is a queue, a span of priorities and the place in line to start from: without that
-- floor 200,000 dead entries under somebody's old snapshot turn 0.4 ms into 20.
-- The row comparison, and no equality on priority, keeps the planner on jobs_ready; ARRAY() runs
-- once, where a join may run the LIMIT again and claim too many; ctid is safe, the rows are locked.
-- Only a node within its lease may claim, by the database's clock. The key share lock keeps a rescuer
-- from taking the node for dead until the claim is committed.
WITH alive AS MATERIALIZED (
  SELECT n.node
  FROM pgjobs.nodes AS n
  WHERE n.node = %(node)s::uuid
    AND n.heartbeat_at > now() - n.lease * interval '1 second'
  FOR KEY SHARE
)
UPDATE pgjobs.jobs AS j
SET state = 'executing',
    -- Whatever somebody wrote into a row by hand, a spent job put back in line or a number that has
    -- no successor, must not wedge the queue.
    attempt = least(j.attempt, 2147483646) + 1,
    max_attempts = greatest(j.max_attempts, least(j.attempt, 2147483646) + 1),
    claimed_by = %(node)s::uuid,
    attempted_at = now(),
    attempted_by = %(name)s,
    acks_late = %(late)s::text[] IS NULL OR j.task = ANY (%(late)s::text[])
WHERE j.ctid = ANY (ARRAY(
  SELECT s.ctid
  FROM alive
  CROSS JOIN unnest(%(queues)s::text[], %(lowest)s::smallint[], %(highest)s::smallint[],
              %(floors)s::bigint[]) AS b (queue, lowest, highest, floor)
  CROSS JOIN LATERAL (
    SELECT r.ctid
    FROM pgjobs.jobs AS r
    WHERE r.queue = b.queue
      AND (r.priority, r.seq) >= (b.lowest, b.floor)
      AND r.priority <= b.highest
      AND r.finished_at IS NULL
      AND r.due_at IS NULL
      AND r.claimed_by IS NULL
    ORDER BY r.priority, r.seq
    LIMIT %(limit)s::bigint
    FOR NO KEY UPDATE SKIP LOCKED
  ) AS s
  LIMIT %(limit)s::bigint
))
RETURNING j.id, j.attempt, j.max_attempts, j.queue, j.priority, j.seq, j.redelivered, j.message,
          j.body,
          -- PostgreSQL 16 and older cannot subtract from infinity.
          CASE j.expires_at
            WHEN 'infinity' THEN NULL
            WHEN '-infinity' THEN 0
            ELSE extract(epoch FROM j.expires_at - now())
          END::double precision
