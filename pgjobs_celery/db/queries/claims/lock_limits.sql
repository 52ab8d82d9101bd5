-- Let one claim at a time take from a queue with a limit, until that claim is committed. A statement of
-- its own before the claim, because each statement of a transaction sees what was committed before it
-- began. Locks in the order of the names, so that two transactions that lock several queues do not wait
-- for each other.
SELECT l.queue
FROM pgjobs.limits AS l
WHERE l.queue = ANY (%(locked)s::text[])
ORDER BY l.queue
FOR NO KEY UPDATE
