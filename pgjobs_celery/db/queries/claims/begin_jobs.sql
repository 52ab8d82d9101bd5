-- Mark attempts as begun and acknowledged: if the node dies, they are discarded instead of put back in
-- line. Fenced as in settle_completed. Needed only where the claim could not know this; mostly it does.
UPDATE pgjobs.jobs AS j
SET acks_late = false
FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[]) AS b (id, attempt)
WHERE j.id = b.id
  AND j.attempt = b.attempt
  AND j.claimed_by = %(node)s::uuid
