-- Have a job that does not run begin anew: without the memory of its steps, and without its wait.
WITH waits AS (
  DELETE FROM pgjobs.waits AS w WHERE w.job = ANY (%(jobs)s::bigint[])
)
DELETE FROM pgjobs.steps AS s WHERE s.job = ANY (%(jobs)s::bigint[])
