-- Queues that were declared as durable, and those that are paused, limited, fair or have
-- a maximum depth; not the reply and
-- broadcast queues of workers and waiters. A pause whose time Python cannot hold is shown with the
-- nearest time that it can.
SELECT coalesce(q.name, l.queue),
       CASE WHEN l.paused_at IS NOT NULL
            THEN least(greatest(l.paused_at, '0001-01-03'), '9999-12-29') END,
       l.concurrency,
       CASE WHEN l.paused_until IS NOT NULL
            THEN least(greatest(l.paused_until, '0001-01-03'), '9999-12-29') END,
       l.fair_by, l.ageing, l.max_depth, l.on_full, l.full_wait
FROM pgjobs.queues AS q
FULL JOIN pgjobs.limits AS l ON l.queue = q.name
WHERE l.paused_at IS NOT NULL
   OR l.concurrency IS NOT NULL
   OR l.fair_by IS NOT NULL
   OR l.max_depth IS NOT NULL
   OR (q.owner IS NULL AND q.expires_after IS NULL AND q.name IS NOT NULL)
ORDER BY 1
