-- Put a job back in line, redelivered and with its result, whose task stored its own SUCCESS (which
-- finished the row) and then had its message put back. No other attempt has begun since, or the attempt
-- number would differ. Not one that its task has completed in its own transaction (complete_job).
UPDATE pgjobs.jobs AS j
-- The id as it is: an end is undone (tally_undone).
SET id = j.id,
    state = 'available',
    finished_at = NULL,
    redelivered = true,
    -- Its lane hears of it (note_return).
    lane = j.lane,
    reported_state = 'SUCCESS'
WHERE j.id = %(id)s
  AND j.attempt = %(attempt)s::integer
  AND j.attempt < j.max_attempts
  AND j.state = 'completed'
  AND j.acks_late
  AND j.message IS NOT NULL
  AND j.result_type IS NOT NULL
RETURNING j.queue
