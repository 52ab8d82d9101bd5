-- Take from dead nodes what they held; they were condemned in this transaction, and their rows go with
-- it. Jobs held in the name of a node that has no row are taken as well. By the time a row is reached,
-- another node may hold the job.
-- A job that was acknowledged when it began (early ack) may have run, so it is discarded. Any other
-- goes back in line, unless its attempts are used up. Of a job with steps it costs no attempt, for as often
-- as the bound says (forgive_interrupted).
-- A row that is locked is left to a later rescue: its task may be about to commit it (complete_job,
-- assert_claim), and a session whose client has vanished may hold it for hours, and all others with it.
WITH dead AS MATERIALIZED (
  SELECT n.node, n.name
  FROM pgjobs.nodes AS n
  WHERE n.heartbeat_at = '-infinity'
), buried AS (
  DELETE FROM pgjobs.nodes AS n USING dead WHERE n.node = dead.node RETURNING n.name
), abandoned AS (
  -- Its own queues may go, unless others consume from them: reap_queues.
  UPDATE pgjobs.queues AS q
  SET used_at = 'epoch'
  FROM dead
  WHERE q.owner = dead.node
), returned AS (
  UPDATE pgjobs.messages AS m
  SET claimed_by = NULL,
      redelivered = true
  FROM dead
  WHERE m.claimed_by = dead.node
  RETURNING m.queue
), rescued AS (
  UPDATE pgjobs.jobs AS j
  SET state = pgjobs.settled_state(j, l.wanted, NOT l.is_forgiven),
      finished_at = CASE WHEN pgjobs.settled_state(j, l.wanted, NOT l.is_forgiven) <> 'available' THEN pg_catalog.now() END,
      redelivered = true,
      claimed_by = NULL,
      -- As it is: its lane hears of it (note_return).
      lane = j.lane,
      max_attempts = CASE WHEN l.is_forgiven THEN least(j.max_attempts, 2147483646) + 1 ELSE j.max_attempts END,
      meta = CASE WHEN l.is_forgiven
                  THEN pg_catalog.jsonb_set(
                    CASE WHEN pg_catalog.jsonb_typeof(j.meta) = 'object' THEN j.meta ELSE '{}' END,
                    '{interrupted}', pg_catalog.to_jsonb(1 + pgjobs.interruptions(j)))
                  ELSE j.meta END,
      -- Where the task stored a SUCCESS before it had itself put back, the next run is left out for it.
      reported_state = CASE WHEN l.keeps AND l.wanted = 'available' THEN j.reported_state END,
      result = CASE WHEN l.keeps AND l.wanted = 'available' THEN j.result END,
      result_type = CASE WHEN l.keeps AND l.wanted = 'available' THEN j.result_type END,
      traceback = NULL,
      errors = CASE
        WHEN pgjobs.settled_state(j, l.wanted, NOT l.is_forgiven) = l.wanted
          THEN pgjobs.with_error(j.errors, pgjobs.attempt_error(j, l.error))
        ELSE pgjobs.settled_error(j, pgjobs.settled_state(j, l.wanted, NOT l.is_forgiven), l.error)
      END,
      fingerprint = CASE WHEN pgjobs.settled_state(j, l.wanted, NOT l.is_forgiven) <> 'cancelled'
                         THEN pgjobs.fingerprint(j.task, l.error) END,
      failed_at = CASE WHEN pgjobs.settled_state(j, l.wanted, NOT l.is_forgiven) <> 'cancelled'
                       THEN pg_catalog.now() END
  FROM (
    SELECT c.id, c.attempt, c.claimed_by, c.reported_state = 'SUCCESS' AS keeps,
           CASE WHEN c.acks_late THEN 'available' ELSE 'discarded' END AS wanted,
           c.acks_late AND pgjobs.interruptions(c) < %(bound)s::integer
             AND coalesce((SELECT true FROM pgjobs.steps AS s WHERE s.job = c.id LIMIT 1),
                          (SELECT true FROM pgjobs.waits AS w WHERE w.job = c.id LIMIT 1),
                          false) AS is_forgiven,
           pg_catalog.jsonb_build_object(
             'type', 'WorkerLostError', 'module', 'billiard.exceptions',
             'message', coalesce(dead.name, c.attempted_by, 'its worker') || ' was lost'
               || CASE WHEN c.acks_late THEN ''
                       ELSE ' after the task was acknowledged; it may have run or not' END) AS error
    FROM pgjobs.jobs AS c
    LEFT JOIN dead ON dead.node = c.claimed_by
    WHERE c.finished_at IS NULL
      AND c.due_at IS NULL
      AND c.claimed_by IS NOT NULL
      AND (dead.node IS NOT NULL
           -- A report without a message cannot run.
           OR c.message IS NOT NULL
              AND NOT EXISTS (SELECT FROM pgjobs.nodes AS n WHERE n.node = c.claimed_by))
    FOR NO KEY UPDATE OF c SKIP LOCKED
  ) AS l
  WHERE j.id = l.id
    AND j.attempt = l.attempt
    AND j.claimed_by = l.claimed_by
  RETURNING j.task, j.queue, j.state
), tallied AS (
  -- What is discarded has ended, and is counted as that.
  INSERT INTO pgjobs.tally (task, queue, state)
  SELECT r.task, r.queue, 'rescued'
  FROM rescued AS r
  WHERE r.state = 'available'
)
SELECT 'job' AS kind, r.queue, r.state, pg_catalog.count(*) FROM rescued AS r GROUP BY r.queue, r.state
UNION ALL
SELECT 'message', m.queue, '', pg_catalog.count(*) FROM returned AS m GROUP BY m.queue
UNION ALL
SELECT 'node', b.name, '', 1 FROM buried AS b
