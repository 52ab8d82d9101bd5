-- A result without a claim: the task came through another broker, or its state is written by hand. Such
-- a job cannot run (it has no message), and a finished job stays as it is; but one that completed
-- without a result (result_type is NULL: its consumer only acknowledged it) may be given one, as with
-- Celery's other backends.
WITH stored AS (
  INSERT INTO pgjobs.jobs AS j
    (task_id, task, queue, root_id, parent_id, group_id, group_index, state, finished_at,
     claimed_by, attempt, max_attempts, attempted_at, attempted_by, due_at, body, reported_state, result,
     result_type, traceback, children, errors, fingerprint, failed_at)
  VALUES (%(task_id)s, %(task)s, %(queue)s, %(root_id)s, %(parent_id)s, %(group_id)s,
          %(group_index)s::integer,
          CASE WHEN %(state)s = 'retryable' THEN 'executing' ELSE %(state)s END,
          CASE WHEN %(state)s IN ('completed', 'discarded', 'cancelled') THEN pg_catalog.now() END,
          CASE WHEN %(state)s IN ('executing', 'retryable')
               THEN '00000000-0000-0000-0000-000000000000'::uuid END,
          %(attempt)s::integer, greatest(20, %(attempt)s::integer), pg_catalog.now(), %(attempted_by)s, NULL,
          %(body)s::bytea, %(reported_state)s, %(result)s::bytea, %(result_type)s,
          %(traceback)s, %(children)s,
          CASE WHEN %(error)s::text IS NULL THEN '[]'
               ELSE pg_catalog.jsonb_build_array(
                 %(error)s::jsonb
                 || pg_catalog.jsonb_build_object('attempt', %(attempt)s::integer, 'at', pg_catalog.now())) END,
          CASE WHEN %(state)s IN ('discarded', 'retryable')
               THEN pgjobs.fingerprint(%(task)s, %(error)s::jsonb) END,
          CASE WHEN %(state)s IN ('discarded', 'retryable') THEN pg_catalog.now() END)
  ON CONFLICT (task_id) DO UPDATE
  -- The id as it is: an end may be made anew (tally_undone).
  SET id = j.id,
      state = excluded.state,
      finished_at = excluded.finished_at,
      due_at = NULL,
      claimed_by = excluded.claimed_by,
      attempt = CASE WHEN j.message IS NULL THEN excluded.attempt ELSE j.attempt END,
      max_attempts = CASE WHEN j.message IS NULL THEN excluded.max_attempts ELSE j.max_attempts END,
      group_id = coalesce(j.group_id, excluded.group_id),
      group_index = coalesce(j.group_index, excluded.group_index),
      attempted_by = coalesce(excluded.attempted_by, j.attempted_by),
      body = CASE WHEN j.message IS NULL THEN excluded.body ELSE j.body END,
      reported_state = excluded.reported_state,
      result = excluded.result,
      result_type = excluded.result_type,
      traceback = excluded.traceback,
      children = excluded.children,
      errors = pgjobs.with_error(j.errors, excluded.errors),
      fingerprint = excluded.fingerprint,
      failed_at = excluded.failed_at
  WHERE CASE
      WHEN j.finished_at IS NULL THEN excluded.finished_at IS NOT NULL OR j.message IS NULL
      ELSE j.state = 'completed' AND j.result_type IS NULL
           AND excluded.state IN ('completed', 'discarded')
    END
  RETURNING 1
)
SELECT (SELECT pg_catalog.count(*) FROM stored),
       (SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || %(task_id)s)
        WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
          %(space)s::integer, pg_catalog.hashtext(%(channel)s || %(waiter)s)))
