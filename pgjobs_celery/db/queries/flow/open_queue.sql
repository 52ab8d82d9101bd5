-- A queue with lanes has a row of limits, for its claims to lock.
INSERT INTO pgjobs.limits (queue)
SELECT %(queue)s
WHERE NOT EXISTS (SELECT FROM pgjobs.limits AS l WHERE l.queue = %(queue)s)
ON CONFLICT DO NOTHING
