-- Put in line the jobs whose signal is there. Looked at are the signals and the waits that are new, each once:
-- a job that waits for long, and a signal that nobody takes yet, cost nothing here.
-- Whichever of the two is committed last is looked at with the other in sight. A wait of a job that still
-- runs stays new until the job is scheduled; a signal whose job's row is locked just now stays new as well.
-- What is new comes first, and the rest by an index, one by one (LATERAL with LIMIT): with no statistics, or
-- old ones, other joins look cheaper, and read whole tables. Rows that are locked are written by their place.
WITH fresh AS MATERIALIZED (
  SELECT s.ctid, s.id, s.task_id, s.key, s.name
  FROM pgjobs.signals AS s
  WHERE s.is_new
  ORDER BY s.id
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), begun AS MATERIALIZED (
  SELECT w.ctid, w.job, w.name, w.key, j.task_id, j.state
  FROM pgjobs.waits AS w
  CROSS JOIN LATERAL (
    SELECT r.task_id, r.state FROM pgjobs.jobs AS r WHERE r.id = w.job LIMIT 1
  ) AS j
  WHERE w.is_new
    AND j.state <> 'executing'
  ORDER BY w.job
  LIMIT %(limit)s::bigint
  FOR UPDATE OF w SKIP LOCKED
), told AS MATERIALIZED (
  -- Those that fresh signals are for, and those that have just begun to wait for one that is there.
  SELECT f.id AS signal, w.job
  FROM fresh AS f
  CROSS JOIN LATERAL (
    SELECT r.id FROM pgjobs.jobs AS r WHERE r.task_id = f.task_id AND r.state = 'scheduled' LIMIT 1
  ) AS j
  CROSS JOIN LATERAL (
    SELECT t.job FROM pgjobs.waits AS t WHERE t.job = j.id AND t.name = f.name LIMIT 1
  ) AS w
  UNION ALL
  SELECT f.id, j.id
  FROM fresh AS f
  CROSS JOIN LATERAL (
    SELECT t.job FROM pgjobs.waits AS t WHERE t.key = f.key AND t.name = f.name LIMIT 1000
  ) AS w
  CROSS JOIN LATERAL (
    SELECT r.id FROM pgjobs.jobs AS r WHERE r.id = w.job AND r.state = 'scheduled' LIMIT 1
  ) AS j
  UNION ALL
  SELECT NULL, b.job
  FROM begun AS b
  WHERE b.state = 'scheduled'
    AND coalesce((
      SELECT true FROM pgjobs.signals AS s
      WHERE s.task_id = b.task_id AND s.name = b.name AND s.taken_at IS NULL LIMIT 1
    ), (
      SELECT true FROM pgjobs.signals AS s
      WHERE s.key = b.key AND s.name = b.name AND s.taken_at IS NULL LIMIT 1
    ))
), locked AS MATERIALIZED (
  SELECT j.ctid, j.id
  FROM pgjobs.jobs AS j
  WHERE j.id = ANY (ARRAY(SELECT t.job FROM told AS t)::bigint[])
    AND j.state = 'scheduled'
  ORDER BY j.id
  FOR NO KEY UPDATE SKIP LOCKED
), passed_over AS MATERIALIZED (
  SELECT t.signal, t.job FROM told AS t WHERE t.job NOT IN (SELECT l.id FROM locked AS l)
), woken AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'available',
      due_at = NULL,
      seq = pg_catalog.nextval('pgjobs.jobs_seq'),
      -- As it is: its lane hears of it (note_return).
      lane = j.lane
  WHERE j.ctid = ANY (ARRAY(SELECT l.ctid FROM locked AS l))
  RETURNING j.queue
), seen AS (
  UPDATE pgjobs.signals AS s
  SET is_new = false
  WHERE s.ctid = ANY (ARRAY(
    SELECT f.ctid FROM fresh AS f
    WHERE f.id NOT IN (SELECT p.signal FROM passed_over AS p WHERE p.signal IS NOT NULL)))
), looked AS (
  UPDATE pgjobs.waits AS w
  SET is_new = false
  WHERE w.ctid = ANY (ARRAY(
    SELECT b.ctid FROM begun AS b WHERE b.job NOT IN (SELECT p.job FROM passed_over AS p)))
)
SELECT w.queue, pg_catalog.count(*), (SELECT pg_catalog.count(*) FROM fresh)
FROM woken AS w
GROUP BY w.queue
UNION ALL
SELECT NULL, 0, (SELECT pg_catalog.count(*) FROM fresh)
