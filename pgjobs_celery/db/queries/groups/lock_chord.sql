-- Take a chord that is complete, to publish its body; nothing if somebody else is about to, or has.
-- Whoever dies meanwhile lets go of it.
SELECT g.body, g.header, g.body_type
FROM pgjobs.groups AS g
WHERE g.group_id = %(group_id)s
  AND g.published_at IS NULL
FOR UPDATE SKIP LOCKED
