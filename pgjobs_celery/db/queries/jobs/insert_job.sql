-- One row per task id. An id that still waits is the same job, not a second one: nothing changes. An id
-- that has finished runs again as a new job, and so does one that only a report stands for: its state
-- was stored before it was published, and is kept. An id that its own worker publishes again while it
-- runs (retry, replace) goes back in line with the new message; nobody else may do that, or a worker
-- that lost its claim would take the job from the one that holds it now.
-- A task that was delivered again because its worker was lost publishes its chain's next step again:
-- once is enough, and a step that may have finished by now must not run again. The same holds for a
-- task that was taken for dead and goes on (its claim, parent, is lost), and for a publish that is sent
-- once more because its answer was cut off (since: how long ago it was first sent).
-- A job stays marked as redelivered when it retries itself, and becomes so when it is sent again
-- because its process was lost (is_repeated).
-- A job may wait for as long as its own expiry or its queue's (x-message-ttl) allows, counted from when
-- it may run.
-- A job that runs again as a new one gets a new number, so that a late write of the old one does not
-- reach it.
-- An id that was revoked before it was published (forbid_jobs) is cancelled when it comes.
-- max_attempts is NULL for a task that sets none: it then limits deliveries, and each retry by Celery
-- adds to it. A job that goes back in line keeps the meta that its task may have updated, and is
-- cancelled instead if that was asked for while it ran.
-- In a transaction of the caller's own (channel), workers hear of it with the commit.
INSERT INTO pgjobs.jobs AS j
  (task_id, task, queue, root_id, parent_id, group_id, group_index, expires_at, message, body,
   priority, max_attempts, tags, meta, scheduled_at, due_at, state, seq, lane, cost)
SELECT %(task_id)s, %(task)s, %(queue)s, %(root_id)s, %(parent_id)s, %(group_id)s,
       %(group_index)s::integer,
       least(%(expires_at)s::timestamptz, coalesce(w.eta, pg_catalog.now()) + interval '1 second' * least(
         %(ttl)s::double precision,
         (SELECT q.message_ttl FROM pgjobs.queues AS q WHERE q.name = %(queue)s))),
       %(message)s, %(body)s, %(priority)s,
       coalesce(%(max_attempts)s::integer, 20), %(tags)s::text[], %(meta)s::jsonb,
       coalesce(w.eta, pg_catalog.now()),
       CASE WHEN w.eta > pg_catalog.now() THEN w.eta END,
       CASE WHEN w.eta > pg_catalog.now() THEN 'scheduled' ELSE 'available' END,
       coalesce(%(seq)s::bigint, pg_catalog.nextval('pgjobs.jobs_seq')),
       %(lane)s::text, %(cost)s::integer
FROM (SELECT coalesce(pg_catalog.now() + %(delay)s::double precision * interval '1 second',
                      %(eta)s::timestamptz) AS eta) AS w
WHERE NOT %(is_holder_only)s::boolean
   OR EXISTS (SELECT FROM pgjobs.jobs AS h WHERE h.task_id = %(task_id)s)
ON CONFLICT (task_id) DO UPDATE
-- Where the id is set, an end that is undone is still counted (tally_undone).
SET id = CASE WHEN j.finished_at IS NULL THEN j.id ELSE excluded.id END,
    task = excluded.task,
    queue = excluded.queue,
    root_id = excluded.root_id,
    parent_id = excluded.parent_id,
    group_id = excluded.group_id,
    group_index = excluded.group_index,
    expires_at = excluded.expires_at,
    message = excluded.message,
    body = excluded.body,
    priority = excluded.priority,
    seq = excluded.seq,
    lane = excluded.lane,
    cost = excluded.cost,
    inserted_at = CASE WHEN j.finished_at IS NULL THEN j.inserted_at ELSE excluded.inserted_at END,
    scheduled_at = excluded.scheduled_at,
    tags = excluded.tags,
    meta = CASE WHEN j.finished_at IS NULL AND j.message IS NOT NULL AND j.task = excluded.task
                THEN j.meta ELSE excluded.meta END,
    unique_key = CASE WHEN j.finished_at IS NULL THEN j.unique_key END,
    attempt = CASE WHEN j.finished_at IS NULL AND j.message IS NOT NULL THEN j.attempt ELSE 0 END,
    max_attempts = CASE
      WHEN j.finished_at IS NOT NULL OR j.message IS NULL THEN excluded.max_attempts
      WHEN %(max_attempts)s::integer IS NULL OR j.task <> excluded.task
        THEN greatest(j.max_attempts, j.attempt + excluded.max_attempts)
      ELSE greatest(j.max_attempts, j.attempt + 1) END,
    state = CASE WHEN j.finished_at IS NULL AND j.message IS NOT NULL
                 THEN pgjobs.settled_state(
                   j, CASE WHEN excluded.due_at IS NULL THEN 'available' ELSE 'retryable' END, false)
                 WHEN j.message IS NULL AND j.cancel_requested_at IS NOT NULL THEN 'cancelled'
                 ELSE excluded.state END,
    due_at = CASE WHEN (j.finished_at IS NULL) = (j.message IS NOT NULL)
                       AND pgjobs.settled_state(j, 'available', false) = 'cancelled' THEN NULL
                  ELSE excluded.due_at END,
    finished_at = CASE WHEN (j.finished_at IS NULL) = (j.message IS NOT NULL)
                            AND pgjobs.settled_state(j, 'available', false) = 'cancelled'
                       THEN pg_catalog.clock_timestamp() END,
    redelivered = j.finished_at IS NULL AND j.message IS NOT NULL AND j.task = excluded.task
                  AND (j.redelivered OR %(is_repeated)s::boolean),
    claimed_by = NULL,
    cancel_requested_at = CASE WHEN j.finished_at IS NULL THEN j.cancel_requested_at END,
    cancel_reason = CASE WHEN j.finished_at IS NULL THEN j.cancel_reason END,
    cancel_signal = CASE WHEN j.finished_at IS NULL THEN j.cancel_signal END,
    superseded_by = CASE WHEN j.finished_at IS NULL THEN j.superseded_by END,
    given_key = CASE WHEN j.finished_at IS NULL THEN j.given_key END,
    reported_state = CASE WHEN j.message IS NULL AND j.finished_at IS NULL
                          THEN j.reported_state END,
    result = CASE WHEN j.message IS NULL AND j.finished_at IS NULL THEN j.result END,
    result_type = CASE WHEN j.message IS NULL AND j.finished_at IS NULL THEN j.result_type END,
    traceback = NULL,
    children = NULL,
    errors = CASE
      WHEN j.message IS NULL AND j.cancel_requested_at IS NOT NULL THEN j.errors
      WHEN j.finished_at IS NOT NULL THEN '[]'
      WHEN j.message IS NOT NULL AND pgjobs.settled_state(j, 'available', false) = 'cancelled'
        THEN pgjobs.settled_error(j, 'cancelled', NULL)
      ELSE j.errors END,
    fingerprint = CASE WHEN j.finished_at IS NULL THEN j.fingerprint END,
    failed_at = CASE WHEN j.finished_at IS NULL THEN j.failed_at END
WHERE j.claimed_by = %(holder)s::uuid AND j.attempt = %(holder_attempt)s::integer
   OR NOT %(is_holder_only)s::boolean
      AND (j.message IS NULL
           OR j.finished_at IS NOT NULL
              AND (j.parent_id = excluded.parent_id AND (
                     %(is_repeated)s::boolean
                     OR %(parent)s::uuid IS NOT NULL AND (
                       SELECT p.claimed_by = %(parent)s::uuid
                              AND p.attempt = %(parent_attempt)s::integer
                       FROM pgjobs.jobs AS p
                       WHERE p.task_id = excluded.parent_id) IS NOT TRUE)) IS NOT TRUE
              AND (j.inserted_at > pg_catalog.now() - %(since)s::double precision * interval '1 second')
                  IS NOT TRUE)
RETURNING CASE WHEN %(channel)s::text IS NOT NULL
               THEN pg_catalog.pg_notify(%(channel)s::text, 'j' || j.queue) END,
          CASE WHEN %(channel)s::text IS NOT NULL AND j.due_at IS NOT NULL
               THEN pg_catalog.pg_notify(%(channel)s::text, 'd') END
