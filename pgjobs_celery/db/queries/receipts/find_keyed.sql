-- The jobs that were published with these keys, of these tasks; NULL for any. The receipts of one task
-- after the other: by their index, which begins with the task, and of which there are few.
WITH RECURSIVE found (task) AS (
  (SELECT r.task FROM pgjobs.receipts AS r ORDER BY r.task LIMIT 1)
  UNION ALL
  SELECT (SELECT r.task FROM pgjobs.receipts AS r WHERE r.task > f.task ORDER BY r.task LIMIT 1)
  FROM found AS f
  WHERE f.task IS NOT NULL
)
SELECT r.task_id
FROM found AS f
JOIN pgjobs.receipts AS r ON r.task = f.task
WHERE r.key = ANY (%(keys)s::text[])
  AND (%(tasks)s::text[] IS NULL OR f.task = ANY (%(tasks)s::text[]))
