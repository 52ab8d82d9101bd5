-- The same in the transaction of the caller's own, with the rows that the step has written. No lock: the
-- caller's transaction may last, and a dead worker's jobs must not wait for it. Where the claim is lost before
-- the commit, rows and memory are still committed together or not at all, and of two runs that record a step
-- the second waits for the first, and finds that it was recorded.
WITH recorded AS (
  INSERT INTO pgjobs.steps (job, name, kind, value, value_type, attempt)
  SELECT j.id, %(name)s, %(kind)s, %(value)s, %(value_type)s, %(attempt)s::integer
  FROM pgjobs.jobs AS j
  WHERE j.id = %(job)s::bigint
    AND j.attempt = %(attempt)s::integer
    AND j.claimed_by = %(node)s::uuid
  ON CONFLICT (job, name) DO NOTHING
  RETURNING 1
)
SELECT EXISTS (SELECT FROM recorded),
       EXISTS (SELECT FROM pgjobs.jobs AS j
               WHERE j.id = %(job)s::bigint
                 AND j.attempt = %(attempt)s::integer
                 AND j.claimed_by = %(node)s::uuid)
