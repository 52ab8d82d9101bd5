-- Put in line the jobs whose signal is there. Looked at are the signals and the waits that are new, each once:
-- a job that waits for long, and a signal that nobody takes yet, cost nothing here.
-- Whichever of the two is committed last is looked at with the other in sight. A wait of a job that still
-- runs stays new until the job is scheduled; a signal whose job's row is locked just now stays new as well.
WITH fresh AS MATERIALIZED (
  SELECT s.id, s.task_id, s.key, s.name
  FROM pgjobs.signals AS s
  WHERE s.is_new
  ORDER BY s.id
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), begun AS MATERIALIZED (
  SELECT w.job, j.state
  FROM pgjobs.waits AS w
  JOIN pgjobs.jobs AS j ON j.id = w.job
  WHERE w.is_new
    AND j.state <> 'executing'
  ORDER BY w.job
  LIMIT %(limit)s::bigint
  FOR UPDATE OF w SKIP LOCKED
), told AS MATERIALIZED (
  -- Those that fresh signals are for, and those that have just begun to wait for one that is there.
  SELECT f.id AS signal, w.job
  FROM fresh AS f
  JOIN pgjobs.jobs AS j ON j.task_id = f.task_id
  JOIN pgjobs.waits AS w ON w.job = j.id AND w.name = f.name
  WHERE j.state = 'scheduled'
  UNION ALL
  SELECT f.id, w.job
  FROM fresh AS f
  JOIN pgjobs.waits AS w ON w.key = f.key AND w.name = f.name
  JOIN pgjobs.jobs AS j ON j.id = w.job
  WHERE j.state = 'scheduled'
  UNION ALL
  SELECT NULL, b.job
  FROM begun AS b
  JOIN pgjobs.waits AS w ON w.job = b.job
  JOIN pgjobs.jobs AS j ON j.id = b.job
  WHERE b.state = 'scheduled'
    AND w.name IS NOT NULL
    AND (EXISTS (SELECT FROM pgjobs.signals AS s
                 WHERE s.task_id = j.task_id AND s.name = w.name AND s.taken_at IS NULL)
         OR EXISTS (SELECT FROM pgjobs.signals AS s
                    WHERE s.key = w.key AND s.name = w.name AND s.taken_at IS NULL))
), locked AS MATERIALIZED (
  SELECT j.id
  FROM pgjobs.jobs AS j
  WHERE j.id = ANY (ARRAY(SELECT t.job FROM told AS t)::bigint[])
    AND j.state = 'scheduled'
  ORDER BY j.id
  FOR NO KEY UPDATE SKIP LOCKED
), woken AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'available',
      due_at = NULL,
      seq = pg_catalog.nextval('pgjobs.jobs_seq')
  FROM locked AS l
  WHERE j.id = l.id
  RETURNING j.queue
), seen AS (
  UPDATE pgjobs.signals AS s
  SET is_new = false
  FROM fresh AS f
  WHERE s.id = f.id
    AND NOT EXISTS (SELECT FROM told AS t
                    WHERE t.signal = f.id AND t.job NOT IN (SELECT l.id FROM locked AS l))
), looked AS (
  UPDATE pgjobs.waits AS w
  SET is_new = false
  FROM begun AS b
  WHERE w.job = b.job
    AND NOT EXISTS (SELECT FROM told AS t
                    WHERE t.job = b.job AND t.job NOT IN (SELECT l.id FROM locked AS l))
)
SELECT w.queue, pg_catalog.count(*), (SELECT pg_catalog.count(*) FROM fresh)
FROM woken AS w
GROUP BY w.queue
UNION ALL
SELECT NULL, 0, (SELECT pg_catalog.count(*) FROM fresh)
