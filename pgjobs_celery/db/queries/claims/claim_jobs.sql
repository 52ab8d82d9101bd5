-- Take ready jobs in the order of the buckets, and within a bucket by (priority, seq).
-- A bucket is a queue, a span of priorities and the place in line to start from: without that floor,
-- 200,000 dead entries under somebody's old snapshot turn 0.4 ms into 20.
-- The row comparison, with no equality on priority, keeps the planner on jobs_ready; ARRAY() runs once,
-- where a join may run the LIMIT again and claim too many; ctid is safe because the rows are locked.
-- Only a node within its lease may claim, by the database's clock. The key share lock keeps a rescuer
-- from taking the node for dead until the claim is committed.
-- A paused queue gives nothing. Neither does a queue with a limit, except to a claim that locked its
-- row before (lock_limits, free_slots): a lock taken in this statement would come after its snapshot.
-- Such a claim takes a slot for each of its jobs, so a bucket must be the only one of its queue.
-- A claim that takes nothing does not wait for the disk either, where it is alone in its transaction: the
-- lock on the node's row goes into the log. When a job comes, each of a hundred workers that wait looks for
-- it, and looks again; all but one in vain.
WITH alive AS MATERIALIZED (
  SELECT n.node
  FROM pgjobs.nodes AS n
  WHERE n.node = %(node)s::uuid
    AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second'
  FOR KEY SHARE
), claimed AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'executing',
      -- A row that was changed by hand, a spent job put back in line or a number that has
      -- no successor, must not wedge the queue.
      attempt = least(j.attempt, 2147483646) + 1,
      max_attempts = greatest(j.max_attempts, least(j.attempt, 2147483646) + 1),
      claimed_by = %(node)s::uuid,
      attempted_at = pg_catalog.now(),
      attempted_by = %(name)s,
      acks_late = %(late)s::text[] IS NULL OR j.task = ANY (%(late)s::text[])
  WHERE j.ctid = ANY (ARRAY(
    SELECT s.ctid
    FROM alive
    CROSS JOIN unnest(%(queues)s::text[], %(lowest)s::smallint[], %(highest)s::smallint[],
                      %(floors)s::bigint[], %(places)s::bigint[])
               AS b (queue, lowest, highest, floor, places)
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
      LIMIT least(%(limit)s::bigint, b.places, (
        SELECT CASE
            WHEN l.paused_at IS NOT NULL THEN 0
            WHEN l.concurrency IS NULL THEN NULL
            WHEN l.queue = ANY (%(locked)s::text[]) THEN greatest(0, l.concurrency - (
              SELECT pg_catalog.count(*) FROM pgjobs.slots AS t WHERE t.queue = l.queue))
            ELSE 0
          END
        FROM pgjobs.limits AS l
        WHERE l.queue = b.queue
      ))
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
              ELSE extract(epoch FROM j.expires_at - pg_catalog.now())
            END::double precision AS expires_in
), taken AS (
  INSERT INTO pgjobs.slots (queue, job, attempt)
  SELECT c.queue, c.id, c.attempt
  FROM claimed AS c
  WHERE c.queue = ANY (%(locked)s::text[])
  ON CONFLICT (queue, job) DO UPDATE SET attempt = excluded.attempt
)
SELECT * FROM claimed
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
WHERE CASE WHEN %(is_alone)s::boolean AND NOT EXISTS (SELECT FROM claimed)
           THEN pg_catalog.set_config('synchronous_commit', 'off', true) IS NULL
           ELSE false END
