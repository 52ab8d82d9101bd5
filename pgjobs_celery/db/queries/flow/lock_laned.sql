-- Let nothing be claimed from lanes until this transaction is committed. Locks in the order of the names, as
-- lock_limits.
SELECT l.queue
FROM pgjobs.limits AS l
WHERE EXISTS (SELECT FROM pgjobs.rounds AS r WHERE r.queue = l.queue)
ORDER BY l.queue
FOR NO KEY UPDATE OF l
