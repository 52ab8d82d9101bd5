-- The jobs that were published with these keys, of these tasks; NULL for any. The receipts of one task
-- after the other: by their index, which begins with the task, and of which there are few. OFFSET 0 keeps
-- them so: PostgreSQL 17 would read the whole table, for it thinks that there are many tasks.
WITH RECURSIVE found (task) AS (
  (SELECT r.task FROM pgjobs.receipts AS r ORDER BY r.task LIMIT 1)
  UNION ALL
  SELECT (SELECT r.task FROM pgjobs.receipts AS r WHERE r.task > f.task ORDER BY r.task LIMIT 1)
  FROM found AS f
  WHERE f.task IS NOT NULL
)
SELECT k.task_id
FROM found AS f
CROSS JOIN LATERAL (
  SELECT r.task_id
  FROM pgjobs.receipts AS r
  WHERE r.task = f.task
    AND r.key = ANY (%(keys)s::text[])
  OFFSET 0
) AS k
WHERE %(tasks)s::text[] IS NULL
   OR f.task = ANY (%(tasks)s::text[])
