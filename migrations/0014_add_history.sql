-- 0014_add_history: how many jobs ended, and how long they waited and ran, by time.
-- migrate:up

-- What ended in each minute, ten minutes and hour: of all jobs, of each task and of each queue. The service
-- that keeps the totals adds to it, from the rows that it has read for them; no job that ends writes here.
CREATE TABLE pgjobs.history (
  -- all, task or queue.
  kind      text        NOT NULL,
  -- How long the bucket is, in seconds: 60, 600 or 3600.
  width     integer     NOT NULL,
  -- When it begins.
  at        timestamptz NOT NULL,
  -- The task or the queue; '' for all.
  name      text        NOT NULL DEFAULT '',
  -- False: what ended so lately that a transaction may still add to it. Counted anew each time.
  is_final  boolean     NOT NULL DEFAULT true,
  succeeded bigint      NOT NULL DEFAULT 0,
  failed    bigint      NOT NULL DEFAULT 0,
  cancelled bigint      NOT NULL DEFAULT 0,
  retried   bigint      NOT NULL DEFAULT 0,
  snoozed   bigint      NOT NULL DEFAULT 0,
  rescued   bigint      NOT NULL DEFAULT 0,
  -- Seconds, of all that succeeded or failed together.
  waited    double precision NOT NULL DEFAULT 0,
  ran       double precision NOT NULL DEFAULT 0,
  -- How many of them are in each bucket of a histogram, to the last that has any.
  waits     integer[]   NOT NULL DEFAULT '{}',
  runs      integer[]   NOT NULL DEFAULT '{}',
  -- The most jobs that could run, and that ran, at any look within that time; NULL without a look.
  ready     bigint,
  running   bigint,
  CONSTRAINT history_pkey PRIMARY KEY (kind, width, at, name, is_final)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- migrate:down

DROP TABLE pgjobs.history;
