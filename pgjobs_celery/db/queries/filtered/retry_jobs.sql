-- on match_jobs FOR NO KEY UPDATE
-- The same job runs once more, at the tail of its line and in the order of the ids: earlier errors
-- stay, the result goes. It may run at least once more, however often it has run.
-- Not for a row without a message (its task ran through another broker), and not for a job whose
-- successor under its unique key is still to run. Otherwise the job takes the key back from one that
-- has ended. A successor that was just published and cannot be seen yet makes the index refuse the
-- batch, which begins anew.
-- With keeps_time, which takes a cancellation back, a job whose time has not come waits for it again.
WITH line AS MATERIALIZED (
  SELECT o.id, pg_catalog.nextval('pgjobs.jobs_seq') AS seq, t.due_at
  FROM (SELECT m.id FROM matched AS m ORDER BY m.id) AS o
  LEFT JOIN LATERAL (
    SELECT coalesce(k.due_at, k.scheduled_at) AS due_at
    FROM pgjobs.jobs AS k
    WHERE %(keeps_time)s::boolean
      AND k.id = o.id
      AND coalesce(k.due_at, k.scheduled_at) > pg_catalog.now()
  ) AS t ON true
), freed AS (
  UPDATE pgjobs.jobs AS h
  SET unique_key = NULL,
      superseded_by = g.task_id,
      given_key = h.unique_key
  FROM line
  JOIN pgjobs.jobs AS g ON g.id = line.id
  WHERE h.unique_key = g.given_key
    AND h.id <> g.id
    AND h.finished_at IS NOT NULL
    AND g.state IN ('scheduled', 'retryable', 'completed', 'discarded', 'cancelled')
    AND g.message IS NOT NULL
  RETURNING 1
), changed AS (
  UPDATE pgjobs.jobs AS j
  -- The id as it is: an end is undone (tally_undone).
  SET id = j.id,
      state = CASE WHEN line.due_at IS NULL THEN 'available' ELSE 'scheduled' END,
      seq = line.seq,
      -- Its lane hears of it (note_return).
      lane = j.lane,
      scheduled_at = coalesce(line.due_at, pg_catalog.now()),
      due_at = line.due_at,
      finished_at = NULL,
      -- Whatever number was written by hand.
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
      unique_key = coalesce(j.unique_key, j.given_key),
      superseded_by = NULL,
      given_key = NULL
  -- Counted, so that it is freed before the key is taken.
  FROM line CROSS JOIN (SELECT pg_catalog.count(*) FROM freed) AS f
  WHERE j.id = line.id
    AND j.state IN ('scheduled', 'retryable', 'completed', 'discarded', 'cancelled')
    AND j.message IS NOT NULL
    AND NOT EXISTS (
      SELECT FROM pgjobs.jobs AS s
      WHERE (s.task_id = j.superseded_by OR s.unique_key = j.given_key)
        AND s.finished_at IS NULL
    )
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
