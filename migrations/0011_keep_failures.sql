-- 0011_keep_failures: each failed attempt with its begin and its worker, and jobs by the failure they stand at.
-- migrate:up

-- NULL for a job that has not failed, and again once it has completed or was cancelled. Nothing that a
-- claim changes, so that one stays a HOT update. Jobs that failed before this have neither.
ALTER TABLE pgjobs.jobs
  -- The name of the problem (pgjobs.fingerprint): failures that are alike share it.
  ADD COLUMN fingerprint text COLLATE "C",
  -- When its last attempt failed.
  ADD COLUMN failed_at timestamptz;

-- An entry of errors for the attempt that ends now.
CREATE FUNCTION pgjobs.attempt_error(job pgjobs.jobs, error jsonb) RETURNS jsonb
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN error || pg_catalog.jsonb_build_object(
    'attempt', (job).attempt, 'at', pg_catalog.now(),
    'began', (job).attempted_at, 'worker', (job).attempted_by);

-- As in pgjobs_celery.job.fingerprint. The type of the exception stands in front, so that those of one
-- type are a range of the index. What SQL itself has written has no cause but its type.
CREATE FUNCTION pgjobs.fingerprint(task text, error jsonb) RETURNS text
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN pg_catalog.left(pg_catalog.replace(error ->> 'type'::text, '-', '_'), 80) || '-'
    || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
         task || E'\n' || coalesce(error ->> 'cause'::text, error ->> 'type'::text), 'UTF8')), 'hex'), 10);

-- As before, with the begin and the worker of an attempt that has ended.
CREATE OR REPLACE FUNCTION pgjobs.settled_error(job pgjobs.jobs, becomes text, error jsonb) RETURNS jsonb
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN CASE becomes
    WHEN 'cancelled' THEN pgjobs.with_error(
      CASE WHEN error IS NULL THEN (job).errors
           ELSE pgjobs.with_error((job).errors, pgjobs.attempt_error(job, error)) END,
      pg_catalog.jsonb_build_object(
        'attempt', (job).attempt, 'at', pg_catalog.now(), 'type', 'TaskRevokedError',
        'module', 'celery.exceptions', 'message', coalesce(
          nullif((job).cancel_reason, ''), 'superseded by ' || (job).superseded_by, 'revoked')))
    ELSE pgjobs.with_error(
      (job).errors,
      pgjobs.attempt_error(job, coalesce(error, '{"type": "DeliveryLimitExceeded"}'))
        || pg_catalog.jsonb_build_object('message', pg_catalog.concat_ws(
          '; ', error ->> 'message'::text,
          'delivered ' || (job).attempt::text || ' times without being finished')))
  END;

-- For people, as before and with these.
CREATE OR REPLACE VIEW pgjobs.job_details AS
  SELECT j.id, j.state, j.queue, j.task, j.task_id, pgjobs.args(j) AS args, pgjobs.kwargs(j) AS kwargs,
         j.priority, j.attempt, j.max_attempts, j.inserted_at, j.scheduled_at, j.attempted_at,
         j.finished_at, j.attempted_by, j.reported_state, pgjobs.body_json(j.result) AS result,
         j.traceback, j.errors, j.tags, j.meta, j.root_id, j.parent_id, j.group_id,
         j.cancel_requested_at, j.cancel_reason, j.superseded_by,
         (SELECT pg_catalog.jsonb_agg(
                   pg_catalog.jsonb_build_object('at', a.at, 'action', a.action, 'actor', a.actor)
                   ORDER BY a.at, a.id)
          FROM pgjobs.audit AS a
          WHERE a.task_ids OPERATOR(pg_catalog.@>) ARRAY[j.task_id]
             OR a.at IN (j.finished_at, j.cancel_requested_at)
                AND a.action IN ('cancel_jobs', 'purge_queue', 'delete_queue')
                AND a.jobs > pg_catalog.cardinality(a.task_ids)) AS actions,
         j.fingerprint, j.failed_at
  FROM pgjobs.jobs AS j;

-- migrate:down

DROP VIEW pgjobs.job_details;
CREATE VIEW pgjobs.job_details AS
  SELECT j.id, j.state, j.queue, j.task, j.task_id, pgjobs.args(j) AS args, pgjobs.kwargs(j) AS kwargs,
         j.priority, j.attempt, j.max_attempts, j.inserted_at, j.scheduled_at, j.attempted_at,
         j.finished_at, j.attempted_by, j.reported_state, pgjobs.body_json(j.result) AS result,
         j.traceback, j.errors, j.tags, j.meta, j.root_id, j.parent_id, j.group_id,
         j.cancel_requested_at, j.cancel_reason, j.superseded_by,
         (SELECT pg_catalog.jsonb_agg(
                   pg_catalog.jsonb_build_object('at', a.at, 'action', a.action, 'actor', a.actor)
                   ORDER BY a.at, a.id)
          FROM pgjobs.audit AS a
          WHERE a.task_ids OPERATOR(pg_catalog.@>) ARRAY[j.task_id]
             OR a.at IN (j.finished_at, j.cancel_requested_at)
                AND a.action IN ('cancel_jobs', 'purge_queue', 'delete_queue')
                AND a.jobs > pg_catalog.cardinality(a.task_ids)) AS actions
  FROM pgjobs.jobs AS j;
CREATE OR REPLACE FUNCTION pgjobs.settled_error(job pgjobs.jobs, becomes text, error jsonb) RETURNS jsonb
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN CASE becomes
    WHEN 'cancelled' THEN pgjobs.with_error(
      CASE WHEN error IS NULL THEN (job).errors
           ELSE pgjobs.with_error((job).errors, error || pg_catalog.jsonb_build_object(
             'attempt', (job).attempt, 'at', pg_catalog.now())) END,
      pg_catalog.jsonb_build_object(
        'attempt', (job).attempt, 'at', pg_catalog.now(), 'type', 'TaskRevokedError',
        'module', 'celery.exceptions', 'message', coalesce(
          nullif((job).cancel_reason, ''), 'superseded by ' || (job).superseded_by, 'revoked')))
    ELSE pgjobs.with_error(
      (job).errors,
      coalesce(error, '{"type": "DeliveryLimitExceeded"}') || pg_catalog.jsonb_build_object(
        'attempt', (job).attempt, 'at', pg_catalog.now(), 'message', pg_catalog.concat_ws(
          '; ', error ->> 'message'::text,
          'delivered ' || (job).attempt::text || ' times without being finished')))
  END;
DROP FUNCTION pgjobs.fingerprint(text, jsonb);
DROP FUNCTION pgjobs.attempt_error(pgjobs.jobs, jsonb);
ALTER TABLE pgjobs.jobs DROP COLUMN failed_at, DROP COLUMN fingerprint;
