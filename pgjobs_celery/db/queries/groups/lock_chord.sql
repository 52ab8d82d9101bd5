-- Take a complete chord to publish its body; nothing if another process is about to, or has. A process
-- that dies meanwhile lets go of it.
SELECT g.body, g.header, g.body_type
FROM pgjobs.groups AS g
WHERE g.group_id = %(group_id)s
  AND g.published_at IS NULL
FOR UPDATE SKIP LOCKED
