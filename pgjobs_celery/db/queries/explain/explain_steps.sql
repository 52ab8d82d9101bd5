-- The sleep or signal that a scheduled job waits for, and the names of some of its newest steps.
SELECT w.step IS NOT NULL, w.name, w.key, w.since, CASE WHEN pg_catalog.isfinite(w.until) THEN w.until END,
       ARRAY(SELECT d.name
             FROM (SELECT s.name, s.recorded_at
                   FROM pgjobs.steps AS s
                   WHERE s.job = j.id
                   ORDER BY s.recorded_at DESC, s.name DESC
                   LIMIT %(limit)s::bigint) AS d
             ORDER BY d.recorded_at, d.name)
FROM pgjobs.jobs AS j
LEFT JOIN LATERAL (
  SELECT t.step, t.name, t.key, t.since, t.until FROM pgjobs.waits AS t WHERE t.job = j.id LIMIT 1
) AS w ON true
WHERE j.task_id = %(task_id)s
