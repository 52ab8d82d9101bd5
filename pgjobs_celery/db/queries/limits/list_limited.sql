-- The queues that are paused or limited, in any schema since there were limits: for a look at one that is not
-- migrated yet.
SELECT l.queue,
       CASE WHEN l.paused_at IS NOT NULL
            THEN least(greatest(l.paused_at, '0001-01-03'), '9999-12-29') END,
       l.concurrency
FROM pgjobs.limits AS l
WHERE l.paused_at IS NOT NULL
   OR l.concurrency IS NOT NULL
ORDER BY l.queue
