-- 0004_create_schedules: what beat publishes, and when.
-- migrate:up

CREATE SEQUENCE pgjobs.schedules_version AS bigint;

-- A row per entry, of beat_schedule or made at run time. Any number of beats look at it, and whoever
-- moves next_run_at on publishes the job, in one transaction: no tick is published twice or lost.
CREATE TABLE pgjobs.schedules (
  -- The app, by its name, whose beats publish it.
  app             text        NOT NULL,
  name            text        NOT NULL,
  -- One of the app's beat_schedule, which its beats keep as it is there.
  is_configured   boolean     NOT NULL DEFAULT false,
  task            text        NOT NULL,
  -- As JSON; NULL where only the program knows them.
  args            text,
  kwargs          text,
  options         text,
  schedule        jsonb       NOT NULL,
  -- Names the schedule: a beat that knows the entry by another one leaves it alone.
  definition      text        NOT NULL,
  -- What becomes of ticks that no beat was there for: none is published, the last one, or all.
  missed          text        NOT NULL DEFAULT 'once',
  missed_limit    integer     NOT NULL DEFAULT 100,
  inserted_at     timestamptz NOT NULL DEFAULT now(),
  -- The tick that comes next.
  next_run_at     timestamptz NOT NULL,
  -- The tick that was published last, its job, and how many were.
  last_run_at     timestamptz,
  last_task_id    text,
  total_run_count bigint      NOT NULL DEFAULT 0,
  paused_at       timestamptz,
  -- Another one with each change that is not a tick: how beats see that there was one.
  version         bigint      NOT NULL DEFAULT nextval('pgjobs.schedules_version'),
  CONSTRAINT schedules_pkey PRIMARY KEY (app, name),
  CONSTRAINT schedules_missed_known CHECK (missed IN ('skip', 'once', 'all')),
  CONSTRAINT schedules_missed_limit_positive CHECK (missed_limit > 0)
) WITH (fillfactor = 50);

-- For people: the entries, and what has become of the job that each has published last.
CREATE VIEW pgjobs.schedule_details AS
  SELECT s.app, s.name, s.is_configured, s.task,
         pgjobs.body_json(convert_to(s.args, 'UTF8')) AS args,
         pgjobs.body_json(convert_to(s.kwargs, 'UTF8')) AS kwargs,
         pgjobs.body_json(convert_to(s.options, 'UTF8')) AS options,
         s.schedule, s.missed, s.missed_limit, s.paused_at,
         CASE WHEN s.paused_at IS NULL THEN s.next_run_at END AS next_run_at,
         s.last_run_at, s.last_task_id, j.state AS last_state, j.finished_at AS last_finished_at,
         CASE WHEN j.state <> 'completed' THEN j.errors -> -1 ->> 'message' END AS last_error,
         s.total_run_count
  FROM pgjobs.schedules AS s
  LEFT JOIN pgjobs.jobs AS j ON j.task_id = s.last_task_id;

-- migrate:down

DROP VIEW pgjobs.schedule_details;
DROP TABLE pgjobs.schedules;
DROP SEQUENCE pgjobs.schedules_version;
