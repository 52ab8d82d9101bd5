-- Count an attempt to publish a body in place of a worker that did not; returns how often that was
-- tried, this time included.
UPDATE pgjobs.groups AS g
SET attempts = g.attempts + 1
WHERE g.group_id = %(group_id)s
  AND g.published_at IS NULL
RETURNING g.attempts
