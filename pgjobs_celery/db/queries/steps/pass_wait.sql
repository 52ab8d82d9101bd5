-- A running job comes to a sleep, or to a wait for a signal. If that is over, it becomes a step, with the
-- signal's payload, and the job goes on; otherwise the job's wait is noted, from when it first came here. A
-- signal counts before the end of the time. Fenced, as record_step.
-- Of those that were sent to the job's id and to its key, the one that was sent first. Where another job
-- takes the same signal at the same time, that one has it, and this one waits.
-- The wait is new each time: a service has to look for signals once the job is scheduled (wake_waiting).
WITH held AS MATERIALIZED (
  SELECT j.id, j.task_id
  FROM pgjobs.jobs AS j
  WHERE j.id = %(job)s::bigint
    AND j.attempt = %(attempt)s::integer
    AND j.claimed_by = %(node)s::uuid
  FOR SHARE
), taken AS (
  UPDATE pgjobs.signals AS t
  SET taken_at = pg_catalog.clock_timestamp(),
      job = h.id
  FROM held AS h
  WHERE %(name)s::text IS NOT NULL
    AND t.taken_at IS NULL
    AND t.id = least((
      SELECT s.id FROM pgjobs.signals AS s
      WHERE s.task_id = h.task_id AND s.name = %(name)s AND s.taken_at IS NULL
      ORDER BY s.task_id, s.name, s.taken_at NULLS FIRST, s.id LIMIT 1
    ), (
      SELECT s.id FROM pgjobs.signals AS s
      WHERE s.key = %(key)s AND s.name = %(name)s AND s.taken_at IS NULL
      ORDER BY s.key, s.name, s.taken_at NULLS FIRST, s.id LIMIT 1
    ))
  RETURNING t.payload, t.payload_type
), begun AS MATERIALIZED (
  SELECT w.since, w.until
  FROM pgjobs.waits AS w
  JOIN held AS h ON h.id = w.job
  WHERE w.step = %(step)s
), asked AS MATERIALIZED (
  -- Of a wait that has begun the time stays as it was. By the clock: a first look with a time that is over
  -- already is no wait at all.
  SELECT h.id, b.since,
         CASE WHEN b.since IS NOT NULL THEN b.until
              WHEN %(delay)s::double precision IS NOT NULL
                THEN pg_catalog.clock_timestamp() + %(delay)s::double precision * interval '1 second'
              ELSE %(until)s::timestamptz END AS until
  FROM held AS h
  LEFT JOIN begun AS b ON true
), passed AS MATERIALIZED (
  SELECT a.id, CASE WHEN EXISTS (SELECT FROM taken) THEN 'signal'
                    WHEN %(name)s::text IS NULL THEN 'sleep'
                    ELSE 'timeout' END AS kind
  FROM asked AS a
  WHERE EXISTS (SELECT FROM taken) OR a.until <= pg_catalog.clock_timestamp()
), recorded AS (
  INSERT INTO pgjobs.steps (job, name, kind, value, value_type, attempt)
  SELECT p.id, %(step)s, p.kind, t.payload, t.payload_type, %(attempt)s::integer
  FROM passed AS p
  LEFT JOIN taken AS t ON true
  ON CONFLICT (job, name) DO NOTHING
), ended AS (
  DELETE FROM pgjobs.waits AS w USING passed AS p WHERE w.job = p.id
), noted AS (
  INSERT INTO pgjobs.waits AS w (job, step, name, key, until, is_new)
  SELECT a.id, %(step)s, %(name)s, %(key)s, a.until, %(name)s::text IS NOT NULL
  FROM asked AS a
  WHERE NOT EXISTS (SELECT FROM passed)
  ON CONFLICT (job) DO UPDATE
  SET step = excluded.step,
      name = excluded.name,
      key = excluded.key,
      since = CASE WHEN w.step = excluded.step THEN w.since ELSE excluded.since END,
      until = excluded.until,
      is_new = excluded.is_new
)
SELECT p.kind, t.payload, t.payload_type,
       -- PostgreSQL 16 and older cannot subtract from infinity.
       CASE WHEN a.until < 'infinity'
            THEN extract(epoch FROM a.until - pg_catalog.clock_timestamp())::double precision END
FROM asked AS a
LEFT JOIN passed AS p ON true
LEFT JOIN taken AS t ON true
