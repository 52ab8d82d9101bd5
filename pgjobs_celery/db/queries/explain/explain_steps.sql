-- The sleep or signal that a scheduled job waits for, the names of some of its newest steps, and those of
-- signals that are kept for it, or for its key, while it waits for another.
SELECT w.step IS NOT NULL, w.name, w.key, w.since, CASE WHEN pg_catalog.isfinite(w.until) THEN w.until END,
       ARRAY(SELECT d.name
             FROM (SELECT s.name, s.recorded_at
                   FROM pgjobs.steps AS s
                   WHERE s.job = j.id
                   ORDER BY s.recorded_at DESC, s.name DESC
                   LIMIT %(limit)s::bigint) AS d
             ORDER BY d.recorded_at, d.name),
       ARRAY(SELECT DISTINCT k.name
             FROM (
               (SELECT s.name FROM pgjobs.signals AS s
                WHERE s.task_id = j.task_id AND s.taken_at IS NULL LIMIT %(limit)s::bigint)
               UNION ALL
               (SELECT s.name FROM pgjobs.signals AS s
                WHERE s.key = w.key AND s.taken_at IS NULL LIMIT %(limit)s::bigint)
             ) AS k
             WHERE k.name IS DISTINCT FROM w.name
             ORDER BY k.name)
FROM pgjobs.jobs AS j
LEFT JOIN LATERAL (
  SELECT t.step, t.name, t.key, t.since, t.until FROM pgjobs.waits AS t WHERE t.job = j.id LIMIT 1
) AS w ON true
WHERE j.task_id = %(task_id)s
