-- A job that was published again under its own id guards its kind again, unless another does.
UPDATE pgjobs.jobs AS j
SET unique_key = %(unique_key)s::bytea
WHERE j.task_id = %(task_id)s
  AND j.finished_at IS NULL
  AND j.unique_key IS NULL
  AND NOT EXISTS (SELECT FROM pgjobs.jobs AS h WHERE h.unique_key = %(unique_key)s::bytea)
