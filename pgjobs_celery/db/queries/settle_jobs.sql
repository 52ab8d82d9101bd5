-- What became of claimed jobs, in one statement: finished, or available again. Fenced by id,
-- attempt and node, and not by state: a predicate on state lets a tiny partial index capture it.
-- Back in line keeps its place; an attempt that never started is not counted (counts = false);
-- one that was the last is discarded instead, so that a job that kills its worker stops at some point.
UPDATE pgjobs.jobs AS j
SET state = CASE WHEN s.is_spent THEN 'discarded' ELSE s.state END,
    attempt = j.attempt - CASE WHEN s.counts THEN 0 ELSE 1 END,
    finished_at = CASE WHEN s.state = 'available' AND NOT s.is_spent THEN NULL ELSE now() END,
    redelivered = j.redelivered OR s.state = 'available',
    claimed_by = NULL,
    reported_state = NULL,
    errors = CASE
      WHEN s.is_spent THEN j.errors || jsonb_build_object(
        'attempt', j.attempt, 'at', now(), 'type', 'DeliveryLimitExceeded',
        'message', 'delivered ' || j.attempt || ' times without being finished')
      WHEN s.error IS NULL THEN j.errors
      ELSE j.errors || (s.error::jsonb || jsonb_build_object('attempt', j.attempt, 'at', now()))
    END
FROM (
  SELECT u.id, u.attempt, u.state, u.counts, u.error,
         u.state = 'available' AND u.counts AND u.attempt >= c.max_attempts AS is_spent
  FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(states)s::text[],
              %(counts)s::boolean[], %(errors)s::text[])
       AS u (id, attempt, state, counts, error)
  JOIN pgjobs.jobs AS c ON c.id = u.id
) AS s
WHERE j.id = s.id
  AND j.attempt = s.attempt
  AND j.claimed_by = %(node)s::uuid
RETURNING j.id
