-- 0015_add_flow: rates, limits by key and fair shares. A queue that has none of these pays for none.
-- migrate:up

-- Jobs with the same constraints stand in the same lane. The lane is a text of lines, in order: a line
-- for each gate that the job has to pass, and "share=<key>" in a queue that is fair. A job in a lane has its
-- rank + 256 as its priority, so that the claim of jobs without one, which ends at rank 255, never meets it:
-- neither that statement nor its index knows of lanes.
ALTER TABLE pgjobs.jobs
  ADD COLUMN lane text,
  -- The tokens that a start takes from a rate; NULL is 1.
  ADD COLUMN cost integer,
  -- NOT VALID: the rows that exist are in the range, and a scan would hold up everybody.
  ADD CONSTRAINT jobs_cost_in_range CHECK (cost >= 0) NOT VALID,
  ADD CONSTRAINT jobs_lane_has_priority CHECK ((priority > 255) = (lane IS NOT NULL)) NOT VALID,
  DROP CONSTRAINT jobs_priority_in_range,
  ADD CONSTRAINT jobs_priority_in_range CHECK (priority BETWEEN 0 AND 511) NOT VALID;

-- The rules. A flow is a name: rate/... or running/..., then task/<task>, queue/<queue> or a name of its own.
CREATE TABLE pgjobs.flows (
  flow       text NOT NULL,
  -- Of the code, as workers register it, or set by hand, which counts until it is taken away.
  source     text NOT NULL DEFAULT 'code',
  -- How many starts in a period, or how many at once. NULL is any number.
  amount     integer,
  -- In seconds; NULL for what limits how many run at once.
  period     double precision,
  -- The path of the arguments by which each value is counted by itself: "kwargs.tenant_id", "args.0".
  by         text,
  -- Of a bucket: how many starts it holds when it is full; NULL is amount.
  burst      integer,
  algorithm  text NOT NULL DEFAULT 'window',
  -- All workers together, or each by itself.
  scope      text NOT NULL DEFAULT 'global',
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT flows_pkey PRIMARY KEY (flow, source),
  CONSTRAINT flows_source_known CHECK (source IN ('code', 'hand')),
  CONSTRAINT flows_algorithm_known CHECK (algorithm IN ('window', 'bucket')),
  CONSTRAINT flows_scope_known CHECK (scope IN ('global', 'worker')),
  CONSTRAINT flows_amount_in_range CHECK (amount >= 0),
  CONSTRAINT flows_burst_in_range CHECK (burst >= 1),
  CONSTRAINT flows_period_in_range CHECK (period > 0 AND period <= 31622400)
) WITH (fillfactor = 50);

-- The state of the gates that jobs have passed: <flow>, or <flow>=<key>. A gate without a row is as new. The
-- row of a gate is the one with the highest turn: each change adds one, so that the newest version is the
-- first that an index scan meets, whatever old snapshots keep.
CREATE TABLE pgjobs.gates (
  gate     text   NOT NULL,
  turn     bigint NOT NULL DEFAULT 0,
  -- Of a window: when tokens were taken, rounded up to a hundredth of the period, and how many. Seconds
  -- since 1970, by the server's clock.
  times    double precision[] NOT NULL DEFAULT '{}',
  counts   integer[]          NOT NULL DEFAULT '{}',
  -- What is gone from these counted until then, in the same seconds: a claim whose clock is behind that
  -- does not know all that counts for it.
  looks_from double precision NOT NULL DEFAULT '-infinity',
  -- Of a bucket: when it is full again.
  full_at  double precision,
  -- Of what limits how many run at once: the jobs and their attempts. A place is free when the job's row
  -- says that this attempt runs no more.
  jobs     bigint[]           NOT NULL DEFAULT '{}',
  attempts integer[]          NOT NULL DEFAULT '{}',
  used_at  timestamptz        NOT NULL DEFAULT now(),
  CONSTRAINT gates_pkey PRIMARY KEY (gate, turn)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- The lanes in which jobs wait. Written by claims only, under the lock of the queue's row of limits.
CREATE TABLE pgjobs.lanes (
  queue      text NOT NULL,
  -- The line of the lane that names its share, or ''.
  share      text NOT NULL DEFAULT '',
  lane       text NOT NULL,
  -- When its turn comes, in rounds. Rises with each change: the newest version is met first.
  pass       double precision NOT NULL,
  -- The gates, and the text of those without a key, which many lanes have in common.
  gates      text[] NOT NULL DEFAULT '{}',
  common     text NOT NULL DEFAULT '',
  weight     double precision NOT NULL DEFAULT 1,
  -- Below this place none of its jobs is ready.
  priority   smallint NOT NULL DEFAULT 0,
  seq        bigint NOT NULL DEFAULT -9223372036854775808,
  -- A gate of its own is shut until then; infinity until a job ends.
  shut_until timestamptz,
  CONSTRAINT lanes_pkey PRIMARY KEY (queue, share, lane, pass)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lanes_open ON pgjobs.lanes (queue, common, pass, lane) WHERE shut_until IS NULL;
CREATE INDEX lanes_shut ON pgjobs.lanes (queue, shut_until) WHERE shut_until IS NOT NULL;

-- Jobs that have come into a lane, for the claim to learn of it: written with the job, deleted by the claim.
-- So a lane that is found empty can go while a job for it is being published.
CREATE TABLE pgjobs.arrivals (
  queue    text     NOT NULL,
  xid      xid8     NOT NULL DEFAULT pg_current_xact_id(),
  lane     text     NOT NULL,
  priority smallint NOT NULL,
  seq      bigint   NOT NULL,
  CONSTRAINT arrivals_pkey PRIMARY KEY (queue, xid, lane, priority, seq)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- How far each queue with lanes has come. The newest version is the one with the highest turn.
CREATE TABLE pgjobs.rounds (
  queue    text   NOT NULL,
  turn     bigint NOT NULL DEFAULT 0,
  -- The time of this queue, in rounds: the turn that was served last. A lane that comes begins here.
  pass     double precision NOT NULL DEFAULT 0,
  -- All arrivals of earlier transactions are known.
  absorbed xid8 NOT NULL DEFAULT '0',
  -- All lanes that were shut until then are open.
  reopened timestamptz NOT NULL DEFAULT '-infinity',
  -- The common gates of its open lanes, for each the turn before which no such lane has its own, and when these
  -- gates open: 0 where they are, infinity when a job ends, or seconds since 1970. As the last look found them.
  commons  text[] NOT NULL DEFAULT '{}',
  floors   double precision[] NOT NULL DEFAULT '{}',
  opens    double precision[] NOT NULL DEFAULT '{}',
  CONSTRAINT rounds_pkey PRIMARY KEY (queue, turn)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

ALTER TABLE pgjobs.limits
  -- The path of the arguments whose values take turns; NULL is a queue that is not fair.
  ADD COLUMN fair_by      text,
  -- After how many seconds a job counts as one rank more urgent; NULL is never.
  ADD COLUMN ageing       double precision,
  ADD COLUMN max_depth    integer,
  ADD COLUMN on_full      text,
  ADD COLUMN full_wait    double precision,
  -- When the pause ends by itself.
  ADD COLUMN paused_until timestamptz,
  -- The columns that were set by hand: workers that register the code's leave them alone.
  ADD COLUMN by_hand      text[] NOT NULL DEFAULT '{}',
  ADD CONSTRAINT limits_ageing_in_range CHECK (ageing > 0),
  ADD CONSTRAINT limits_depth_in_range CHECK (max_depth >= 0),
  ADD CONSTRAINT limits_on_full_known CHECK (on_full IN ('raise', 'wait', 'drop_oldest')),
  ADD CONSTRAINT limits_wait_in_range CHECK (full_wait >= 0);

-- Keys of a fair queue that have more or fewer turns than others, which have one.
CREATE TABLE pgjobs.weights (
  queue  text NOT NULL,
  key    text NOT NULL,
  weight double precision NOT NULL,
  CONSTRAINT weights_pkey PRIMARY KEY (queue, key),
  CONSTRAINT weights_in_range CHECK (weight > 0 AND weight < 'infinity')
) WITH (fillfactor = 50);

-- Tasks, tags and keys of which nothing begins. A pause of a queue stands in limits.
CREATE TABLE pgjobs.pauses (
  kind      text NOT NULL,
  name      text NOT NULL,
  -- Of a key: its queue.
  queue     text NOT NULL DEFAULT '',
  paused_at timestamptz NOT NULL DEFAULT now(),
  -- When it ends by itself; NULL for never.
  until     timestamptz,
  CONSTRAINT pauses_pkey PRIMARY KEY (kind, name, queue),
  CONSTRAINT pauses_kind_known CHECK (kind IN ('task', 'tag', 'key'))
) WITH (fillfactor = 50);

-- When that many are free, in seconds since 1970, not before now; infinity for a place, which a job's end frees.
CREATE FUNCTION pgjobs.gate_opens(
  flow pgjobs.flows, gate pgjobs.gates, need bigint, now double precision
) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN CASE
    WHEN (flow).amount IS NULL THEN now
    WHEN (flow).period IS NULL OR (flow).amount = 0 THEN 'infinity'
    WHEN (flow).algorithm = 'bucket' THEN greatest(
      now,
      coalesce((gate).full_at, now)
      - (coalesce((flow).burst, (flow).amount) - need) * (flow).period / (flow).amount)
    ELSE greatest(now, (
      SELECT pg_catalog.min(f.at) + (flow).period
      FROM (
        SELECT t.at, pg_catalog.sum(t.count) OVER (ORDER BY t.at DESC) - t.count AS later
        FROM (
          SELECT '-infinity'::double precision AS at, 0 AS count
          UNION ALL
          SELECT u.at, u.count
          FROM unnest((gate).times, (gate).counts) AS u (at, count)
          WHERE u.at > now - (flow).period AND u.at < now + (flow).period * 1.02
        ) AS t
      ) AS f
      -- Once this one has passed, only later ones count.
      WHERE f.later <= (flow).amount - need))
  END;

-- The key at a path of the arguments, as pgjobs_celery.job.flow.key_text writes it. Not of numbers and objects
-- that JSON can write in several ways.
CREATE FUNCTION pgjobs.path_key(body jsonb, path text) RETURNS text
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN (
    SELECT CASE
        WHEN k.key ~ ('[' || pg_catalog.chr(1) || '-' || pg_catalog.chr(31) || pg_catalog.chr(127) || ']') THEN '#' || pg_catalog.left(h.hash, 32)
        WHEN pg_catalog.octet_length(k.key) <= 100 THEN k.key
        -- As many whole characters as fit into 67 bytes.
        ELSE (SELECT pg_catalog.left(k.key, pg_catalog.max(n.n))
              FROM pg_catalog.generate_series(0, 67) AS n (n)
              WHERE pg_catalog.octet_length(pg_catalog.left(k.key, n.n)) <= 67)
             || '#' || pg_catalog.left(h.hash, 32)
      END
    FROM (
      SELECT coalesce(CASE pg_catalog.jsonb_typeof(v.value) WHEN 'string' THEN v.value #>> '{}'::text[]
                      ELSE v.value::text END, 'null') AS key
      FROM (
        SELECT body #> pg_catalog.string_to_array(
          pg_catalog.regexp_replace(pg_catalog.regexp_replace(path, '^args[.]', '0.'), '^kwargs[.]', '1.'), '.')
          AS value
      ) AS v
    ) AS k
    CROSS JOIN LATERAL (
      SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(k.key, 'UTF8')), 'hex') AS hash
    ) AS h
  );

-- One row for a transaction that puts many jobs into one lane, if the first of them stands first. By the
-- owner's rights: whoever may publish need not know of this. No sequential scan, whatever an empty table made
-- the planner think. The name is written out, for a statement put together costs each job 20 us more; a
-- schema that was renamed pays them.
CREATE FUNCTION pgjobs.note_arrival() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
BEGIN
  IF pg_catalog.to_regclass('pgjobs.jobs') = TG_RELID THEN
    INSERT INTO pgjobs.arrivals (queue, lane, priority, seq)
    SELECT NEW.queue, NEW.lane, NEW.priority, NEW.seq
    WHERE NOT EXISTS (
      SELECT FROM pgjobs.arrivals AS a
      WHERE a.queue = NEW.queue
        AND a.xid = pg_catalog.pg_current_xact_id()
        AND a.lane = NEW.lane
        AND (a.priority, a.seq) <= (NEW.priority, NEW.seq)
    );
  ELSE
    EXECUTE pg_catalog.format($sql$
      INSERT INTO %1$I.arrivals (queue, lane, priority, seq)
      SELECT ($1).queue, ($1).lane, ($1).priority, ($1).seq
      WHERE NOT EXISTS (
        SELECT FROM %1$I.arrivals AS a
        WHERE a.queue = ($1).queue
          AND a.xid = pg_catalog.pg_current_xact_id()
          AND a.lane = ($1).lane
          AND (a.priority, a.seq) <= (($1).priority, ($1).seq))
    $sql$, TG_TABLE_SCHEMA) USING NEW;
  END IF;
  RETURN NULL;
END
$$;

-- Only where a statement sets the lane: those do (lane = lane) that put a job back in line. A claim and an
-- outcome do not, and pay nothing.
CREATE TRIGGER note_arrival AFTER INSERT ON pgjobs.jobs
  FOR EACH ROW WHEN (NEW.lane IS NOT NULL AND NEW.due_at IS NULL AND NEW.finished_at IS NULL)
  EXECUTE FUNCTION pgjobs.note_arrival();
CREATE TRIGGER note_return AFTER UPDATE OF lane ON pgjobs.jobs
  FOR EACH ROW WHEN (NEW.lane IS NOT NULL AND NEW.due_at IS NULL AND NEW.finished_at IS NULL
                     AND NEW.claimed_by IS NULL)
  EXECUTE FUNCTION pgjobs.note_arrival();

-- For people, as before: the priority is the rank, and the lane stands beside it.
CREATE OR REPLACE VIEW pgjobs.job_details AS
  SELECT j.id, j.state, j.queue, j.task, j.task_id, pgjobs.args(j) AS args, pgjobs.kwargs(j) AS kwargs,
         j.priority & 255::smallint AS priority, j.attempt, j.max_attempts, j.inserted_at, j.scheduled_at,
         j.attempted_at,
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
         j.fingerprint, j.failed_at, j.lane, j.cost
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
                AND a.jobs > pg_catalog.cardinality(a.task_ids)) AS actions,
         j.fingerprint, j.failed_at
  FROM pgjobs.jobs AS j;
DROP TRIGGER note_return ON pgjobs.jobs;
DROP TRIGGER note_arrival ON pgjobs.jobs;
DROP FUNCTION pgjobs.note_arrival();
DROP FUNCTION pgjobs.path_key(jsonb, text);
DROP FUNCTION pgjobs.gate_opens(pgjobs.flows, pgjobs.gates, bigint, double precision);
DROP TABLE pgjobs.pauses;
DROP TABLE pgjobs.weights;
ALTER TABLE pgjobs.limits
  DROP COLUMN by_hand,
  DROP COLUMN paused_until,
  DROP COLUMN full_wait,
  DROP COLUMN on_full,
  DROP COLUMN max_depth,
  DROP COLUMN ageing,
  DROP COLUMN fair_by;
DROP TABLE pgjobs.rounds;
DROP TABLE pgjobs.arrivals;
DROP TABLE pgjobs.lanes;
DROP TABLE pgjobs.gates;
DROP TABLE pgjobs.flows;
-- Jobs come out of their lanes, and stand in line where they stood.
ALTER TABLE pgjobs.jobs DROP CONSTRAINT jobs_lane_has_priority, DROP CONSTRAINT jobs_priority_in_range;
UPDATE pgjobs.jobs SET priority = priority & 255, lane = NULL WHERE lane IS NOT NULL;
ALTER TABLE pgjobs.jobs
  DROP COLUMN cost,
  DROP COLUMN lane,
  ADD CONSTRAINT jobs_priority_in_range CHECK (priority BETWEEN 0 AND 255);
