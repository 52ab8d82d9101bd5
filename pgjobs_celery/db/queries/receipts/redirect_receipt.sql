-- Another job stands for the one that was published with this key: an equal one, which is unique.
UPDATE pgjobs.receipts AS r
SET task_id = %(task_id)s
WHERE r.task = %(task)s
  AND r.key = %(key)s
