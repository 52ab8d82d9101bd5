-- A pause whose time Python cannot hold is shown with the nearest time that it can.
SELECT CASE WHEN l.paused_at IS NOT NULL
            THEN least(greatest(l.paused_at, '0001-01-03'), '9999-12-29') END,
       l.concurrency
FROM pgjobs.limits AS l
WHERE l.queue = %(queue)s
