-- One claim at a time from a queue with a limit, until it is committed. Before the claim and apart from
-- it: each statement of a transaction sees what was committed before it began. In the order of the
-- names, so that two that lock several do not wait for each other.
SELECT l.queue
FROM pgjobs.limits AS l
WHERE l.queue = ANY (%(locked)s::text[])
ORDER BY l.queue
FOR NO KEY UPDATE
