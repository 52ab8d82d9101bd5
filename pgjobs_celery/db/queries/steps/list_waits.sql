-- What jobs wait for. Of one that does not wait just now a row may be left: its job is not scheduled.
SELECT w.job, w.step, w.name, w.key, w.since, nullif(nullif(w.until, 'infinity'), '-infinity')
FROM pgjobs.waits AS w
JOIN pgjobs.jobs AS j ON j.id = w.job
WHERE w.job = ANY (%(jobs)s::bigint[])
  AND j.state = 'scheduled'
