-- Queues that were declared as durable, and those that are paused or limited; not the reply and
-- broadcast queues of workers and waiters. A pause whose time Python cannot hold is shown with the
-- nearest time that it can.
SELECT coalesce(q.name, l.queue),
       CASE WHEN l.paused_at IS NOT NULL
            THEN least(greatest(l.paused_at, '0001-01-03'), '9999-12-29') END,
       l.concurrency
FROM pgjobs.queues AS q
FULL JOIN pgjobs.limits AS l ON l.queue = q.name
WHERE l.paused_at IS NOT NULL
   OR l.concurrency IS NOT NULL
   OR (q.owner IS NULL AND q.expires_after IS NULL AND q.name IS NOT NULL)
ORDER BY 1
