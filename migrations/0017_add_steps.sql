-- 0017_add_steps: what a job has done so far, what it waits for, signals to it, and receipts of publishing.
-- migrate:up

-- The memory of a job: what its steps have returned, over all of its attempts. Rows go with the job's.
CREATE TABLE pgjobs.steps (
  job         bigint      NOT NULL,
  -- With its number from the second of that name on: charge, charge#2.
  name        text        NOT NULL,
  kind        text        NOT NULL DEFAULT 'step',
  -- What it has returned, or the payload of a signal, and the content type of that.
  value       bytea,
  value_type  text,
  -- The attempt that has recorded it.
  attempt     integer     NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT steps_pkey PRIMARY KEY (job, name),
  CONSTRAINT steps_kind_known CHECK (kind IN ('step', 'sleep', 'signal', 'timeout', 'patch'))
);

-- What a job sleeps or waits for: one row for each that does.
CREATE TABLE pgjobs.waits (
  job    bigint      NOT NULL,
  -- The name of the step that it will be.
  step   text        NOT NULL,
  -- The signal; NULL for a sleep.
  name   text,
  -- By which a signal may find the job, besides its task id.
  key    text,
  since  timestamptz NOT NULL DEFAULT now(),
  -- When it goes on without a signal; NULL: never.
  until  timestamptz,
  -- Nobody has looked yet whether its signal is there.
  is_new boolean     NOT NULL DEFAULT true,
  CONSTRAINT waits_pkey PRIMARY KEY (job)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX waits_new ON pgjobs.waits (job) WHERE is_new;
CREATE INDEX waits_key ON pgjobs.waits (key, name) WHERE key IS NOT NULL;

-- Who sends one locks nothing that others need, and need not know whether the job waits.
CREATE TABLE pgjobs.signals (
  id           bigint      GENERATED ALWAYS AS IDENTITY,
  -- To whom: a job, or whichever job waits by this key.
  task_id      text,
  key          text,
  name         text        NOT NULL,
  payload      bytea,
  payload_type text,
  -- Sent only if no other of this name was sent there.
  is_first     boolean     NOT NULL DEFAULT false,
  sent_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  sent_by      text,
  -- Nobody has looked yet whether a job waits for it.
  is_new       boolean     NOT NULL DEFAULT true,
  -- When which job has taken it.
  taken_at     timestamptz,
  job          bigint,
  CONSTRAINT signals_pkey PRIMARY KEY (id),
  CONSTRAINT signals_addressed CHECK (num_nonnulls(task_id, key) = 1)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX signals_new ON pgjobs.signals (id) WHERE is_new;
-- Those that were not taken come first, in their order.
CREATE INDEX signals_task_id ON pgjobs.signals (task_id, name, taken_at NULLS FIRST, id)
  WHERE task_id IS NOT NULL;
CREATE INDEX signals_key ON pgjobs.signals (key, name, taken_at NULLS FIRST, id) WHERE key IS NOT NULL;
CREATE INDEX signals_job ON pgjobs.signals (job) WHERE job IS NOT NULL;
-- By the job and not by taken_at: no statement that looks for signals must take it for its own.
CREATE INDEX signals_sent ON pgjobs.signals (sent_at) WHERE job IS NULL;
CREATE UNIQUE INDEX signals_first_to_task_id ON pgjobs.signals (task_id, name)
  WHERE is_first AND task_id IS NOT NULL;
CREATE UNIQUE INDEX signals_first_to_key ON pgjobs.signals (key, name) WHERE is_first AND key IS NOT NULL;

-- The job that each idempotency key has: a second publish with it is that job. It outlives the job's row. A
-- key counts for its task alone.
CREATE TABLE pgjobs.receipts (
  task        text        NOT NULL,
  key         text        COLLATE "C" NOT NULL,
  task_id     text        NOT NULL,
  -- SHA-256 of the arguments, where they are plain JSON: the same key with others is a mistake.
  arguments   bytea,
  inserted_at timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz NOT NULL,
  CONSTRAINT receipts_pkey PRIMARY KEY (task, key)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX receipts_expiring ON pgjobs.receipts (expires_at);
CREATE INDEX receipts_task_id ON pgjobs.receipts (task_id);

-- How often a run of the job was cut off without costing an attempt. Whatever a hand has written counts as 0.
CREATE FUNCTION pgjobs.interruptions(job pgjobs.jobs) RETURNS integer
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN CASE
    WHEN pg_catalog.jsonb_typeof((job).meta -> 'interrupted'::text) = 'number'
      THEN least(greatest(pg_catalog.floor(((job).meta ->> 'interrupted'::text)::numeric), 0), 2147483646)::integer
    ELSE 0
  END;

-- With a job goes all that only it needs. Asked first: most jobs have nothing, and prune by thousands.
-- By the owner's rights, and by names that are put in when it runs, as tally_deleted.
CREATE FUNCTION pgjobs.forget_deleted() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  is_any boolean;
BEGIN
  EXECUTE pg_catalog.format($sql$
    SELECT EXISTS (SELECT FROM %1$I.steps) OR EXISTS (SELECT FROM %1$I.waits)
           OR EXISTS (SELECT FROM %1$I.signals)
  $sql$, TG_TABLE_SCHEMA) INTO is_any;
  IF is_any THEN
    EXECUTE pg_catalog.format($sql$
      WITH ended AS MATERIALIZED (
        SELECT pg_catalog.array_agg(g.id) AS ids, pg_catalog.array_agg(g.task_id) AS task_ids FROM gone AS g
      ), steps AS (
        DELETE FROM %1$I.steps AS s WHERE s.job = ANY ((SELECT e.ids FROM ended AS e)::bigint[])
      ), waits AS (
        DELETE FROM %1$I.waits AS w WHERE w.job = ANY ((SELECT e.ids FROM ended AS e)::bigint[])
      ), taken AS (
        DELETE FROM %1$I.signals AS s
        WHERE s.job = ANY ((SELECT e.ids FROM ended AS e)::bigint[]) AND s.key IS NOT NULL
      )
      DELETE FROM %1$I.signals AS s WHERE s.task_id = ANY ((SELECT e.task_ids FROM ended AS e)::text[])
    $sql$, TG_TABLE_SCHEMA);
  END IF;
  RETURN NULL;
END
$$;

-- A finished id that is published again is a new job, of another number, and begins without a memory.
CREATE FUNCTION pgjobs.forget_renumbered() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE pg_catalog.format($sql$
    WITH steps AS (
      DELETE FROM %1$I.steps AS s WHERE s.job = ($1).id
    ), waits AS (
      DELETE FROM %1$I.waits AS w WHERE w.job = ($1).id
    )
    DELETE FROM %1$I.signals AS s
    WHERE s.task_id = ($1).task_id AND (s.taken_at IS NOT NULL OR s.sent_at < ($1).finished_at)
  $sql$, TG_TABLE_SCHEMA) USING OLD;
  RETURN NULL;
END
$$;

CREATE TRIGGER forget_deleted AFTER DELETE ON pgjobs.jobs
  REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION pgjobs.forget_deleted();
CREATE TRIGGER forget_renumbered AFTER UPDATE OF id ON pgjobs.jobs
  FOR EACH ROW WHEN (NEW.id <> OLD.id)
  EXECUTE FUNCTION pgjobs.forget_renumbered();

-- migrate:down

DROP TRIGGER forget_renumbered ON pgjobs.jobs;
DROP TRIGGER forget_deleted ON pgjobs.jobs;
DROP FUNCTION pgjobs.forget_renumbered();
DROP FUNCTION pgjobs.forget_deleted();
DROP FUNCTION pgjobs.interruptions(pgjobs.jobs);
DROP TABLE pgjobs.receipts;
DROP TABLE pgjobs.signals;
DROP TABLE pgjobs.waits;
DROP TABLE pgjobs.steps;
