-- 0008_add_totals: counters that outlive the rows they count.
-- migrate:up

-- How many attempts and jobs have ended, and how long they took, since this table was made. A service
-- of the workers adds what has ended since it looked last; no job that ends writes here.
CREATE TABLE pgjobs.totals (
  task          text     NOT NULL,
  queue         text     NOT NULL,
  -- The class of the exception; '' where none is meant.
  exception     text     NOT NULL DEFAULT '',
  kind          text     NOT NULL,
  -- Of a histogram: which of its buckets.
  bucket        smallint NOT NULL DEFAULT 0,
  count         bigint   NOT NULL DEFAULT 0,
  -- Microseconds in whole numbers: a sum of floats may shrink by its last digit, and a counter that
  -- shrinks has been reset.
  micros        numeric  NOT NULL DEFAULT 0,
  -- The part that ended so lately that a transaction may still add to it. Counted anew each time.
  recent_count  bigint   NOT NULL DEFAULT 0,
  recent_micros numeric  NOT NULL DEFAULT 0,
  CONSTRAINT totals_pkey PRIMARY KEY (task, queue, exception, kind, bucket)
) WITH (fillfactor = 50);

-- One row: how far the ends are counted for good.
CREATE TABLE pgjobs.fold (
  is_only    boolean     PRIMARY KEY DEFAULT true,
  -- Every end before it is.
  watermark  timestamptz NOT NULL DEFAULT now(),
  -- The next one, and the transactions that may still write an end before it.
  candidate  timestamptz,
  holders    text[]      NOT NULL DEFAULT '{}',
  folded_at  timestamptz NOT NULL DEFAULT '-infinity',
  counted_at timestamptz NOT NULL DEFAULT '-infinity',
  -- How long each took the last time, in seconds: what takes long is repeated seldom.
  folding    double precision NOT NULL DEFAULT 0,
  counting   double precision NOT NULL DEFAULT 0,
  CONSTRAINT fold_is_one_row CHECK (is_only)
) WITH (fillfactor = 50);
INSERT INTO pgjobs.fold DEFAULT VALUES;

-- What no row shows any more when the service looks: attempts that were retried, and ends whose rows were
-- deleted or run again. Rows are added and taken away, never changed: nobody waits for another.
CREATE TABLE pgjobs.tally (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task         text NOT NULL,
  queue        text NOT NULL,
  state        text NOT NULL,
  exception    text,
  scheduled_at timestamptz,
  attempted_at timestamptz,
  -- NULL for what is no end.
  finished_at  timestamptz
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- The unfinished jobs, as the service counted them.
CREATE TABLE pgjobs.lines (
  queue  text NOT NULL,
  state  text NOT NULL,
  -- The node that runs them; all zeros for jobs that wait.
  node   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  jobs   bigint NOT NULL,
  -- For how long the oldest of them had been due when they were counted, in seconds.
  oldest double precision NOT NULL DEFAULT 0,
  CONSTRAINT lines_pkey PRIMARY KEY (queue, state, node)
) WITH (fillfactor = 50);

-- An end that is undone, or made anew, was counted if it lies before the watermark; otherwise it is
-- written down. The service goes by the watermark that it finds, so nothing is locked here. By the owner's
-- rights: whoever may change a job need not know of this. The names are put in when it runs, so that the
-- schema may be renamed.
CREATE FUNCTION pgjobs.tally_undone() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE pg_catalog.format($sql$
    INSERT INTO %1$I.tally (task, queue, state, exception, scheduled_at, attempted_at, finished_at)
    SELECT ($1).task, ($1).queue, ($1).state,
           CASE WHEN ($1).state = 'discarded' THEN ($1).errors -> -1 ->> 'type'::text END,
           ($1).scheduled_at, ($1).attempted_at, ($1).finished_at
    FROM %1$I.fold AS f
    WHERE ($1).finished_at >= f.watermark
  $sql$, TG_TABLE_SCHEMA) USING OLD;
  RETURN NULL;
END
$$;

CREATE FUNCTION pgjobs.tally_deleted() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE pg_catalog.format($sql$
    INSERT INTO %1$I.tally (task, queue, state, exception, scheduled_at, attempted_at, finished_at)
    SELECT g.task, g.queue, g.state,
           CASE WHEN g.state = 'discarded' THEN g.errors -> -1 ->> 'type'::text END,
           g.scheduled_at, g.attempted_at, g.finished_at
    FROM gone AS g
    CROSS JOIN %1$I.fold AS f
    WHERE g.finished_at >= f.watermark
  $sql$, TG_TABLE_SCHEMA);
  RETURN NULL;
END
$$;

-- Only where a statement sets the id: those do that may undo an end. Otherwise each claim and each
-- outcome would have its condition looked at: 5 of 50 microseconds, and less than one so.
CREATE TRIGGER tally_undone AFTER UPDATE OF id ON pgjobs.jobs
  FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL AND NEW.finished_at IS DISTINCT FROM OLD.finished_at)
  EXECUTE FUNCTION pgjobs.tally_undone();
CREATE TRIGGER tally_deleted AFTER DELETE ON pgjobs.jobs
  REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION pgjobs.tally_deleted();

-- migrate:down

DROP TRIGGER tally_deleted ON pgjobs.jobs;
DROP TRIGGER tally_undone ON pgjobs.jobs;
DROP FUNCTION pgjobs.tally_deleted();
DROP FUNCTION pgjobs.tally_undone();
DROP TABLE pgjobs.lines;
DROP TABLE pgjobs.tally;
DROP TABLE pgjobs.fold;
DROP TABLE pgjobs.totals;
