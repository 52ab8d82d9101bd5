-- Looks at lanes that left jobs waiting, of one worker since it told of them last. Beyond so many queues they
-- count together.
INSERT INTO pgjobs.totals AS t (task, queue, exception, kind, count)
SELECT '', n.queue, n.reason, 'throttled', pg_catalog.sum(n.count)::bigint
FROM (
  SELECT CASE WHEN EXISTS (SELECT FROM pgjobs.totals AS o
                           WHERE o.task = '' AND o.queue = w.queue AND o.exception = w.reason
                             AND o.kind = 'throttled')
                OR (SELECT pg_catalog.count(DISTINCT o.queue) FROM pgjobs.totals AS o
                    WHERE o.task = '' AND o.kind = 'throttled') < %(limit)s::bigint
              THEN w.queue ELSE %(other)s END AS queue,
         w.reason, w.count
  FROM (
    SELECT pg_catalog.left(u.queue, 200) AS queue, u.reason, u.count
    FROM unnest(%(queues)s::text[], %(reasons)s::text[], %(counts)s::bigint[]) AS u (queue, reason, count)
  ) AS w
) AS n
GROUP BY n.queue, n.reason
ORDER BY n.queue, n.reason
ON CONFLICT (task, queue, exception, kind, bucket) DO UPDATE
SET count = t.count + excluded.count
