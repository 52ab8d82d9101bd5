-- 0005_harden_schema: functions that mean the same to everybody, and rows that can be replicated.
-- migrate:up

-- A body in quotes is looked up anew by whoever calls it, along the path of the caller, where anybody who
-- may create in a schema on it can put a function that fits better. RETURN is looked up once, here, and
-- holds on to what it found, so that the schema may be renamed, too. It is inlined all the same.

CREATE OR REPLACE FUNCTION pgjobs.with_error(errors jsonb, entry jsonb) RETURNS jsonb
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN pg_catalog.jsonb_path_query_array(errors || entry, '$[last - 49 to last]');

-- Its EXCEPTION is a subtransaction, which no parallel plan may begin before PostgreSQL 18, not even in
-- its leader: RESTRICTED would not do.
CREATE OR REPLACE FUNCTION pgjobs.body_json(body bytea) RETURNS jsonb
  LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE
AS $$
BEGIN
  RETURN pg_catalog.convert_from(body, 'UTF8')::pg_catalog.jsonb;
EXCEPTION WHEN others THEN
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION pgjobs.args(job pgjobs.jobs) RETURNS jsonb
  LANGUAGE sql STABLE PARALLEL UNSAFE RETURN pgjobs.body_json((job).body) -> 0;

CREATE OR REPLACE FUNCTION pgjobs.kwargs(job pgjobs.jobs) RETURNS jsonb
  LANGUAGE sql STABLE PARALLEL UNSAFE RETURN pgjobs.body_json((job).body) -> 1;

CREATE OR REPLACE FUNCTION pgjobs.settled_state(job pgjobs.jobs, wanted text, counts boolean) RETURNS text
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN CASE
    WHEN wanted NOT IN ('available', 'retryable', 'scheduled') THEN wanted
    WHEN (job).cancel_requested_at IS NOT NULL OR (job).superseded_by IS NOT NULL THEN 'cancelled'
    WHEN counts AND (job).attempt >= (job).max_attempts THEN 'discarded'
    ELSE wanted
  END;

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

-- Views keep what they have found: once more, along the path that a migration sets.
CREATE OR REPLACE VIEW pgjobs.job_details AS
  SELECT j.id, j.state, j.queue, j.task, j.task_id, pgjobs.args(j) AS args, pgjobs.kwargs(j) AS kwargs,
         j.priority, j.attempt, j.max_attempts, j.inserted_at, j.scheduled_at, j.attempted_at,
         j.finished_at, j.attempted_by, j.reported_state, pgjobs.body_json(j.result) AS result,
         j.traceback, j.errors, j.tags, j.meta, j.root_id, j.parent_id, j.group_id,
         j.cancel_requested_at, j.cancel_reason, j.superseded_by
  FROM pgjobs.jobs AS j;

CREATE OR REPLACE VIEW pgjobs.schedule_details AS
  SELECT s.app, s.name, s.is_configured, s.task,
         pgjobs.body_json(pg_catalog.convert_to(s.args, 'UTF8')) AS args,
         pgjobs.body_json(pg_catalog.convert_to(s.kwargs, 'UTF8')) AS kwargs,
         pgjobs.body_json(pg_catalog.convert_to(s.options, 'UTF8')) AS options,
         s.schedule, s.missed, s.missed_limit, s.paused_at,
         CASE WHEN s.paused_at IS NULL THEN s.next_run_at END AS next_run_at,
         s.last_run_at, s.last_task_id, j.state AS last_state, j.finished_at AS last_finished_at,
         CASE WHEN j.state <> 'completed' THEN j.errors -> -1 ->> 'message'::text END AS last_error,
         s.total_run_count
  FROM pgjobs.schedules AS s
  LEFT JOIN pgjobs.jobs AS j ON j.task_id = s.last_task_id;

-- Where a publication has this table (FOR ALL TABLES), PostgreSQL deletes from it only what it can name.
-- With durable, for a key of all partitions must have what they are divided by. By id it is looked up as
-- by messages_id, whose place it takes.
DROP INDEX pgjobs.messages_id;
ALTER TABLE pgjobs.messages ADD CONSTRAINT messages_pkey PRIMARY KEY (id, durable);

-- migrate:down

ALTER TABLE pgjobs.messages DROP CONSTRAINT messages_pkey;
CREATE INDEX messages_id ON pgjobs.messages (id);

CREATE OR REPLACE FUNCTION pgjobs.settled_error(job pgjobs.jobs, becomes text, error jsonb) RETURNS jsonb
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

CREATE OR REPLACE FUNCTION pgjobs.settled_state(job pgjobs.jobs, wanted text, counts boolean) RETURNS text
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT CASE
    WHEN wanted NOT IN ('available', 'retryable', 'scheduled') THEN wanted
    WHEN (job).cancel_requested_at IS NOT NULL OR (job).superseded_by IS NOT NULL THEN 'cancelled'
    WHEN counts AND (job).attempt >= (job).max_attempts THEN 'discarded'
    ELSE wanted
  END
$$;

CREATE OR REPLACE FUNCTION pgjobs.kwargs(job pgjobs.jobs) RETURNS jsonb
  LANGUAGE sql STABLE AS $$ SELECT pgjobs.body_json((job).body) -> 1 $$;

CREATE OR REPLACE FUNCTION pgjobs.args(job pgjobs.jobs) RETURNS jsonb
  LANGUAGE sql STABLE AS $$ SELECT pgjobs.body_json((job).body) -> 0 $$;

CREATE OR REPLACE FUNCTION pgjobs.body_json(body bytea) RETURNS jsonb
  LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
  RETURN convert_from(body, 'UTF8')::jsonb;
EXCEPTION WHEN others THEN
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION pgjobs.with_error(errors jsonb, entry jsonb) RETURNS jsonb
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT jsonb_path_query_array(errors || entry, '$[last - 49 to last]') $$;
