-- Whether a run that was cut off costs its job no attempt: see forgive_interrupted.
SELECT 1
FROM pgjobs.jobs AS j
WHERE j.id = %(job)s::bigint
  AND j.attempt = %(attempt)s::integer
  AND pgjobs.interruptions(j) < %(bound)s::integer
  AND coalesce((SELECT true FROM pgjobs.steps AS t WHERE t.job = j.id LIMIT 1),
               (SELECT true FROM pgjobs.waits AS w WHERE w.job = j.id LIMIT 1))
