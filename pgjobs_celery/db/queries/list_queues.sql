-- What was declared to stay, and what is paused or limited; not the queues of workers and waiters.
SELECT coalesce(q.name, l.queue), l.paused_at, l.concurrency
FROM pgjobs.queues AS q
FULL JOIN pgjobs.limits AS l ON l.queue = q.name
WHERE l.paused_at IS NOT NULL
   OR l.concurrency IS NOT NULL
   OR (q.owner IS NULL AND q.expires_after IS NULL AND q.name IS NOT NULL)
ORDER BY 1
