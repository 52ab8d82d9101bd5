-- 0002_add_task_options: cancel what runs, unique jobs, queues that are paused or limited.
-- migrate:up

-- Somebody wants the job to stop while it runs: its task is told, and it does not run again.
ALTER TABLE pgjobs.jobs
  ADD COLUMN cancel_requested_at timestamptz,
  ADD COLUMN cancel_reason       text,
  -- The signal that ends the task where it is to be terminated.
  ADD COLUMN cancel_signal       text,
  -- The task id of the job that took over its unique key while it was in a state that the key does
  -- not guard: should it come back into line, that one stands for it.
  ADD COLUMN superseded_by       text,
  -- The key that it took over: a job that is put in line by hand takes it back.
  ADD COLUMN given_key           bytea;

-- Queues that are paused, or limited for all workers together; NULL is no limit. Apart from queues: what
-- somebody has stopped stays so when the queue is deleted, reaped or not declared yet.
CREATE TABLE pgjobs.limits (
  queue       text PRIMARY KEY,
  paused_at   timestamptz,
  concurrency integer,
  CONSTRAINT limits_concurrency_in_range CHECK (concurrency >= 0)
) WITH (fillfactor = 50);

-- The jobs that run in queues with a limit. Written by the claim, under a lock on the queue's row of
-- limits; whether the job still runs is looked up in its row, so that no other way out needs to know.
CREATE TABLE pgjobs.slots (
  queue   text    NOT NULL,
  job     bigint  NOT NULL,
  attempt integer NOT NULL,
  -- By queue and job, so that nothing but that queue's lock is ever waited for.
  CONSTRAINT slots_pkey PRIMARY KEY (queue, job)
) WITH (
  fillfactor = 50,
  autovacuum_vacuum_threshold = 500,
  autovacuum_vacuum_cost_delay = 0
);

-- What becomes of a job that comes back into line (available, retryable, scheduled): it is cancelled
-- where somebody has asked for that, or where another stands for it, and discarded where its attempts
-- are used up. What has ended stays as it is said. One expression, so that it is inlined.
CREATE FUNCTION pgjobs.settled_state(job pgjobs.jobs, wanted text, counts boolean) RETURNS text
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT CASE
    WHEN wanted NOT IN ('available', 'retryable', 'scheduled') THEN wanted
    WHEN (job).cancel_requested_at IS NOT NULL OR (job).superseded_by IS NOT NULL THEN 'cancelled'
    WHEN counts AND (job).attempt >= (job).max_attempts THEN 'discarded'
    ELSE wanted
  END
$$;

-- The error of a job that came to its end instead of going back into line, behind its own.
CREATE FUNCTION pgjobs.settled_error(job pgjobs.jobs, becomes text, error jsonb) RETURNS jsonb
  LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT CASE becomes
    WHEN 'cancelled' THEN pgjobs.with_error(
      CASE WHEN error IS NULL THEN (job).errors
           ELSE pgjobs.with_error((job).errors, error || jsonb_build_object(
             'attempt', (job).attempt, 'at', now())) END,
      jsonb_build_object(
        'attempt', (job).attempt, 'at', now(), 'type', 'TaskRevokedError',
        'module', 'celery.exceptions', 'message', coalesce(
          nullif((job).cancel_reason, ''), 'superseded by ' || (job).superseded_by, 'revoked')))
    ELSE pgjobs.with_error(
      (job).errors, coalesce(error, '{"type": "DeliveryLimitExceeded"}') || jsonb_build_object(
        'attempt', (job).attempt, 'at', now(), 'message', concat_ws(
          '; ', error ->> 'message',
          'delivered ' || (job).attempt || ' times without being finished')))
  END
$$;

CREATE OR REPLACE VIEW pgjobs.job_details AS
  SELECT j.id, j.state, j.queue, j.task, j.task_id, pgjobs.args(j) AS args, pgjobs.kwargs(j) AS kwargs,
         j.priority, j.attempt, j.max_attempts, j.inserted_at, j.scheduled_at, j.attempted_at,
         j.finished_at, j.attempted_by, j.reported_state, pgjobs.body_json(j.result) AS result,
         j.traceback, j.errors, j.tags, j.meta, j.root_id, j.parent_id, j.group_id,
         j.cancel_requested_at, j.cancel_reason, j.superseded_by
  FROM pgjobs.jobs AS j;

-- migrate:down

DROP VIEW pgjobs.job_details;
DROP FUNCTION pgjobs.settled_error(pgjobs.jobs, text, jsonb);
DROP FUNCTION pgjobs.settled_state(pgjobs.jobs, text, boolean);
DROP TABLE pgjobs.slots;
DROP TABLE pgjobs.limits;
ALTER TABLE pgjobs.jobs
  DROP COLUMN given_key,
  DROP COLUMN superseded_by,
  DROP COLUMN cancel_signal,
  DROP COLUMN cancel_reason,
  DROP COLUMN cancel_requested_at;
CREATE VIEW pgjobs.job_details AS
  SELECT j.id, j.state, j.queue, j.task, j.task_id, pgjobs.args(j) AS args, pgjobs.kwargs(j) AS kwargs,
         j.priority, j.attempt, j.max_attempts, j.inserted_at, j.scheduled_at, j.attempted_at,
         j.finished_at, j.attempted_by, j.reported_state, pgjobs.body_json(j.result) AS result,
         j.traceback, j.errors, j.tags, j.meta, j.root_id, j.parent_id, j.group_id
  FROM pgjobs.jobs AS j;
