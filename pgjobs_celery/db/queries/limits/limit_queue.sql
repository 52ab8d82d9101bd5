-- Set a queue's limit; returns the one before. NULL is none.
WITH former AS MATERIALIZED (
  SELECT l.concurrency FROM pgjobs.limits AS l WHERE l.queue = %(queue)s
)
INSERT INTO pgjobs.limits AS l (queue, concurrency)
VALUES (%(queue)s, %(concurrency)s::integer)
ON CONFLICT (queue) DO UPDATE SET concurrency = excluded.concurrency
RETURNING (SELECT f.concurrency FROM former AS f)
