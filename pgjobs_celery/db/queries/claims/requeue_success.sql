-- A task that stored its own SUCCESS, which finished its row, and then had its message put back: in line
-- again, redelivered, with the result. Nobody has begun it since, or the attempt would be another.
UPDATE pgjobs.jobs AS j
SET state = 'available',
    finished_at = NULL,
    redelivered = true,
    reported_state = 'SUCCESS'
WHERE j.id = %(id)s
  AND j.attempt = %(attempt)s::integer
  AND j.attempt < j.max_attempts
  AND j.state = 'completed'
  AND j.message IS NOT NULL
  AND j.result_type IS NOT NULL
RETURNING j.queue
