-- What a job waits for. Of one that does not wait just now a row may be left: it is not scheduled.
SELECT w.step, w.name, w.key, w.since, CASE WHEN pg_catalog.isfinite(w.until) THEN w.until END
FROM pgjobs.waits AS w
WHERE w.job = (SELECT j.id FROM pgjobs.jobs AS j WHERE j.task_id = %(task_id)s AND j.state = 'scheduled')
