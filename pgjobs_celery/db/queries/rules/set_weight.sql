-- The weight of a key in the fair shares of a queue: of lanes that come, and of those that wait. Under the queue's
-- lock, as claims write them.
WITH locked AS MATERIALIZED (
  SELECT FROM pgjobs.limits AS l WHERE l.queue = %(queue)s FOR NO KEY UPDATE
), weighed AS (
  UPDATE pgjobs.lanes AS l
  SET weight = coalesce(%(weight)s::float8, 1)
  WHERE l.queue = %(queue)s
    AND l.share = 'share=' || %(key)s
    AND (SELECT pg_catalog.count(*) FROM locked) >= 0
), forgotten AS (
  DELETE FROM pgjobs.weights AS w
  WHERE w.queue = %(queue)s
    AND w.key = %(key)s
    AND %(weight)s::float8 IS NULL
)
INSERT INTO pgjobs.weights AS w (queue, key, weight)
SELECT %(queue)s, %(key)s, %(weight)s::float8
WHERE %(weight)s::float8 IS NOT NULL
ON CONFLICT (queue, key) DO UPDATE SET weight = excluded.weight
