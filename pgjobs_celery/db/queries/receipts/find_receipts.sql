-- The jobs that were published with these keys.
SELECT r.task, r.key, r.task_id, r.arguments
FROM unnest(%(tasks)s::text[], %(keys)s::text[]) AS u (task, key)
JOIN pgjobs.receipts AS r ON r.task = u.task AND r.key = u.key
