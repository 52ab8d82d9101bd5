-- on walk_line
-- The jobs of a queue that run, those that were claimed first; as explain_line, among so many entries
-- from the head of the line.
SELECT m.task_id, m.task, m.attempted_by,
       CASE WHEN m.attempted_at IS NOT NULL
            THEN least(greatest(m.attempted_at, '0001-01-03'), '9999-12-29') END
FROM matched AS m
WHERE m.claimed_by IS NOT NULL
  AND m.has_message
ORDER BY m.attempted_at
LIMIT %(limit)s::bigint
