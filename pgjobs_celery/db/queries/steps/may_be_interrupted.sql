-- Whether a run that was cut off costs its job no attempt: see forgive_interrupted.
SELECT 1
FROM pgjobs.jobs AS j
WHERE j.id = %(job)s::bigint
  AND j.attempt = %(attempt)s::integer
  AND pgjobs.interruptions(j) < %(bound)s::integer
  AND (EXISTS (SELECT FROM pgjobs.steps AS t WHERE t.job = j.id)
       OR EXISTS (SELECT FROM pgjobs.waits AS w WHERE w.job = j.id))
