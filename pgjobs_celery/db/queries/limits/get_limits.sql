-- A pause whose time Python cannot hold is shown with the nearest time that it can.
SELECT CASE WHEN l.paused_at IS NOT NULL
            THEN least(greatest(l.paused_at, '0001-01-03'), '9999-12-29') END,
       l.concurrency,
       CASE WHEN l.paused_until IS NOT NULL
            THEN least(greatest(l.paused_until, '0001-01-03'), '9999-12-29') END,
       l.fair_by, l.ageing, l.max_depth, l.on_full, l.full_wait
FROM pgjobs.limits AS l
WHERE l.queue = %(queue)s
