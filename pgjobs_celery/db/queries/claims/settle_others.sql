-- What became of claimed jobs that have not completed, in one statement: ended in another way, or back in
-- line. Fenced as in settle_completed.
-- Back in line keeps its place, or waits for its delay (a retry, a snooze). An attempt that never
-- started, or that was snoozed, is not counted (counts = false). One that was the last is discarded
-- instead, so that a job that kills its worker stops at some point; one that somebody wants cancelled
-- is cancelled. That is decided by the row as it is when it is reached (j), not by a join, which would
-- miss what was committed meanwhile.
-- One that was replaced (executing) is nobody's to run until the last of what stands for it is published
-- under its id: as a report without a message.
-- Who waits for a result is woken as in finish_job, and who waits for jobs by what is put back.
WITH settled AS (
  UPDATE pgjobs.jobs AS j
  SET state = pgjobs.settled_state(j, s.state, s.counts),
      attempt = CASE WHEN s.counts THEN j.attempt ELSE greatest(j.attempt - 1, 0) END,
      finished_at = CASE WHEN pgjobs.settled_state(j, s.state, s.counts)
                              IN ('discarded', 'cancelled') THEN pg_catalog.now() END,
      due_at = CASE WHEN pgjobs.settled_state(j, s.state, s.counts) IN ('retryable', 'scheduled')
                    THEN pg_catalog.now() + s.delay * interval '1 second' END,
      scheduled_at = CASE WHEN s.delay IS NULL THEN j.scheduled_at
                          ELSE pg_catalog.now() + s.delay * interval '1 second' END,
      -- What it has published by now it may publish again.
      redelivered = j.redelivered OR s.state = 'available' OR s.was_lost,
      claimed_by = CASE WHEN s.state = 'executing'
                        THEN '00000000-0000-0000-0000-000000000000'::uuid END,
      message = CASE WHEN s.state = 'executing' THEN NULL ELSE j.message END,
      -- What the task said of itself on its way, and what an earlier attempt left, ends with it. A job
      -- that never started is still what it was. An end, or a retry, of which nothing is stored (leaves)
      -- leaves standing what was last stored, and that is what the result reads; PENDING, if that is
      -- nothing.
      reported_state = CASE WHEN pgjobs.settled_state(j, s.state, s.counts) = 'retryable'
                              THEN CASE WHEN s.leaves THEN coalesce(j.reported_state, 'PENDING')
                                        ELSE 'RETRY' END
                            WHEN s.leaves AND s.state = 'discarded'
                              THEN coalesce(j.reported_state, 'PENDING')
                            WHEN s.counts THEN NULL
                            WHEN pgjobs.settled_state(j, s.state, s.counts) = 'available'
                              THEN j.reported_state END,
      result = CASE WHEN s.leaves THEN j.result
                    WHEN s.counts THEN NULL
                    WHEN pgjobs.settled_state(j, s.state, s.counts) = 'available' THEN j.result END,
      result_type = CASE WHEN s.leaves THEN j.result_type
                         WHEN s.counts THEN NULL
                         WHEN pgjobs.settled_state(j, s.state, s.counts) = 'available'
                           THEN j.result_type END,
      traceback = CASE WHEN s.leaves THEN j.traceback
                       WHEN s.counts THEN NULL
                       WHEN pgjobs.settled_state(j, s.state, s.counts) = 'available'
                         THEN j.traceback END,
      -- As Oban does: how often it was snoozed. What a hand has made no object of counts as empty.
      meta = CASE WHEN s.state = 'scheduled'
                  THEN pg_catalog.jsonb_set(
                    CASE WHEN pg_catalog.jsonb_typeof(j.meta) = 'object' THEN j.meta ELSE '{}' END,
                    '{snoozed}', pg_catalog.to_jsonb(1::numeric + CASE
                      WHEN pg_catalog.jsonb_typeof(j.meta -> 'snoozed'::text) = 'number'
                      THEN (j.meta -> 'snoozed'::text)::numeric ELSE 0 END))
                  ELSE j.meta END,
      errors = CASE
        WHEN pgjobs.settled_state(j, s.state, s.counts) <> s.state
          THEN pgjobs.settled_error(
            j, pgjobs.settled_state(j, s.state, s.counts), s.error::jsonb)
        WHEN s.error IS NULL THEN j.errors
        ELSE pgjobs.with_error(j.errors, pgjobs.attempt_error(j, s.error::jsonb))
      END,
      fingerprint = CASE
        WHEN pgjobs.settled_state(j, s.state, s.counts) = 'cancelled' THEN NULL
        WHEN pgjobs.settled_state(j, s.state, s.counts) <> s.state
          THEN pgjobs.fingerprint(j.task, coalesce(s.error::jsonb, '{"type": "DeliveryLimitExceeded"}'))
        WHEN s.error IS NULL THEN j.fingerprint
        ELSE pgjobs.fingerprint(j.task, s.error::jsonb)
      END,
      failed_at = CASE
        WHEN pgjobs.settled_state(j, s.state, s.counts) = 'cancelled' THEN NULL
        WHEN pgjobs.settled_state(j, s.state, s.counts) = s.state AND s.error IS NULL THEN j.failed_at
        ELSE pg_catalog.now()
      END
  FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(states)s::text[],
              %(counts)s::boolean[], %(delays)s::double precision[], %(errors)s::text[],
              %(leaves)s::boolean[], %(waiters)s::text[], %(losses)s::boolean[])
       AS s (id, attempt, state, counts, delay, error, leaves, waiter, was_lost)
  WHERE j.id = s.id
    AND j.attempt = s.attempt
    AND j.claimed_by = %(node)s::uuid
  RETURNING j.id, j.task_id, j.queue, j.state, s.waiter
)
SELECT s.id, s.state,
       CASE WHEN s.waiter IS NOT NULL THEN (
         SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || s.task_id)
         WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
           %(space)s::integer, pg_catalog.hashtext(%(channel)s || s.waiter)))
       END,
       CASE WHEN s.state = 'available' THEN (
         SELECT pg_catalog.pg_notify(%(work_channel)s, %(back)s || s.queue)
         WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
           %(space)s::integer, pg_catalog.hashtext(%(work_channel)s || s.queue)))
       WHEN s.state IN ('retryable', 'scheduled') THEN (
         SELECT pg_catalog.pg_notify(%(work_channel)s, %(due)s)
         WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
           %(space)s::integer, pg_catalog.hashtext(%(work_channel)s)))
       END
FROM settled AS s
