-- Have sleeps and waits end sooner: the clock of a test is moved on.
UPDATE pgjobs.waits AS w
SET until = w.until - %(seconds)s::double precision * interval '1 second'
WHERE (%(jobs)s::bigint[] IS NULL OR w.job = ANY (%(jobs)s::bigint[]))
  AND NOT (%(sleeps_only)s::boolean AND w.name IS NOT NULL)
