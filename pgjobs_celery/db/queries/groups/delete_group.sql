-- Forget what was saved of a group; a chord whose body has not run yet stays.
WITH deleted AS (
  DELETE FROM pgjobs.groups AS g
  WHERE g.group_id = %(group_id)s
    AND (g.published_at IS NOT NULL OR g.body IS NULL AND g.size IS NULL)
)
UPDATE pgjobs.groups AS g
SET result = NULL,
    result_type = NULL
WHERE g.group_id = %(group_id)s
