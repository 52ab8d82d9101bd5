-- on match_jobs FOR NO KEY UPDATE
-- The same job once more, at the tail of its line and in the order of the ids: what went wrong before stays
-- in errors, what came of it goes. It may run at least once more, however often it has.
-- Not what has no message (its task ran through another broker), and not what has a successor under its
-- unique key that is still to run.
WITH line AS MATERIALIZED (
  SELECT o.id, nextval('pgjobs.jobs_seq') AS seq
  FROM (SELECT m.id FROM matched AS m ORDER BY m.id) AS o
), changed AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'available',
      seq = line.seq,
      scheduled_at = now(),
      due_at = NULL,
      finished_at = NULL,
      -- Whatever number somebody has written by hand.
      max_attempts = greatest(j.max_attempts, least(j.attempt, 2147483646) + 1),
      redelivered = false,
      reported_state = NULL,
      result = NULL,
      result_type = NULL,
      traceback = NULL,
      children = NULL,
      cancel_requested_at = NULL,
      cancel_reason = NULL,
      cancel_signal = NULL,
      superseded_by = NULL
  FROM line
  WHERE j.id = line.id
    AND j.state IN ('scheduled', 'retryable', 'completed', 'discarded', 'cancelled')
    AND j.message IS NOT NULL
    AND NOT EXISTS (
      SELECT FROM pgjobs.jobs AS s
      WHERE s.task_id = j.superseded_by
        AND s.finished_at IS NULL
    )
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
