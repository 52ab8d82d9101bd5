-- These attempts have begun and were acknowledged: if the node dies they are discarded, and not put
-- back in line. Fenced as settle_jobs; for what the claim could not know, and mostly it does.
UPDATE pgjobs.jobs AS j
SET acks_late = false
FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[]) AS b (id, attempt)
WHERE j.id = b.id
  AND j.attempt = b.attempt
  AND j.claimed_by = %(node)s::uuid
