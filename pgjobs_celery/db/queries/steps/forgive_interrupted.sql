-- Jobs with steps whose run was cut off, by a shutdown or with its process: that costs them no attempt, for as
-- often as the bound says. They may run once more, and not once less: a number of an attempt must not come
-- back, for a process that was taken for dead may still run under it.
UPDATE pgjobs.jobs AS j
SET max_attempts = least(j.max_attempts, 2147483646) + 1,
    meta = pg_catalog.jsonb_set(
      CASE WHEN pg_catalog.jsonb_typeof(j.meta) = 'object' THEN j.meta ELSE '{}' END,
      '{interrupted}', pg_catalog.to_jsonb(1 + pgjobs.interruptions(j)))
FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[]) AS s (id, attempt)
WHERE j.id = s.id
  AND j.attempt = s.attempt
  AND j.claimed_by = %(node)s::uuid
  AND pgjobs.interruptions(j) < %(bound)s::integer
  AND coalesce((SELECT true FROM pgjobs.steps AS t WHERE t.job = j.id LIMIT 1),
               (SELECT true FROM pgjobs.waits AS w WHERE w.job = j.id LIMIT 1))
RETURNING j.id
