-- What became of claimed jobs, in one statement: finished, or available again. Fenced by id,
-- attempt and node, and not by state: a predicate on state lets a tiny partial index capture it.
-- Back in line keeps its place; an attempt that never started is not counted (counts = false);
-- one that was the last is discarded instead, so that a job that kills its worker stops at some point.
-- Who waits for a result is woken as in finish_job, and who waits for jobs by what is put back.
WITH settled AS (
  UPDATE pgjobs.jobs AS j
  SET state = CASE WHEN s.is_spent THEN 'discarded' ELSE s.state END,
      attempt = CASE WHEN s.counts THEN j.attempt ELSE greatest(j.attempt - 1, 0) END,
      finished_at = CASE WHEN s.state = 'available' AND NOT s.is_spent THEN NULL ELSE now() END,
      redelivered = j.redelivered OR s.state = 'available',
      claimed_by = NULL,
      -- What the task said of itself on its way, and what an earlier attempt left, ends with it. A job
      -- that never started is still what it was.
      reported_state = CASE WHEN s.counts THEN NULL ELSE j.reported_state END,
      result = CASE WHEN s.counts THEN s.result ELSE j.result END,
      result_type = CASE WHEN s.counts THEN s.result_type ELSE j.result_type END,
      traceback = CASE WHEN s.counts THEN NULL ELSE j.traceback END,
      children = coalesce(s.children, j.children),
      errors = CASE
        WHEN s.is_spent THEN pgjobs.with_error(
          j.errors, coalesce(s.error::jsonb, '{"type": "DeliveryLimitExceeded"}')
          || jsonb_build_object('attempt', j.attempt, 'at', now(), 'message', concat_ws(
               '; ', s.error::jsonb ->> 'message',
               'delivered ' || j.attempt || ' times without being finished')))
        WHEN s.error IS NULL THEN j.errors
        ELSE pgjobs.with_error(
          j.errors, s.error::jsonb || jsonb_build_object('attempt', j.attempt, 'at', now()))
      END
  FROM (
    SELECT u.*, u.state = 'available' AND u.counts AND u.attempt >= c.max_attempts AS is_spent
    FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(states)s::text[],
                %(counts)s::boolean[], %(errors)s::text[], %(results)s::bytea[],
                %(result_types)s::text[], %(children)s::text[], %(waiters)s::text[])
         AS u (id, attempt, state, counts, error, result, result_type, children, waiter)
    JOIN pgjobs.jobs AS c ON c.id = u.id
  ) AS s
  WHERE j.id = s.id
    AND j.attempt = s.attempt
    AND j.claimed_by = %(node)s::uuid
  RETURNING j.id, j.task_id, j.queue, j.finished_at IS NULL AS is_back, s.waiter
)
SELECT s.id,
       CASE WHEN s.waiter IS NOT NULL THEN (
         SELECT pg_notify(%(channel)s, %(kind)s || s.task_id)
         WHERE NOT pg_try_advisory_xact_lock(
           %(space)s::integer, hashtext(%(channel)s || s.waiter)))
       END,
       CASE WHEN s.is_back THEN (
         SELECT pg_notify(%(work_channel)s, %(back)s || s.queue)
         WHERE NOT pg_try_advisory_xact_lock(
           %(space)s::integer, hashtext(%(work_channel)s || s.queue)))
       END
FROM settled AS s
