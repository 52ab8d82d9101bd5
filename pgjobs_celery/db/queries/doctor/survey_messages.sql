-- Each queue of messages that are no jobs, by so many of its first: how many durable ones have waited for so
-- many seconds, how many are held by nodes without a row; and how many live nodes consume from it.
-- The names come from one probe of the index for each queue.
WITH RECURSIVE names (queue, number) AS (
  (SELECT m.queue, 1 FROM pgjobs.messages AS m ORDER BY m.queue, m.priority, m.id LIMIT 1)
  UNION ALL
  SELECT (SELECT m.queue
          FROM pgjobs.messages AS m
          WHERE m.queue > n.queue
          ORDER BY m.queue, m.priority, m.id
          LIMIT 1), n.number + 1
  FROM names AS n
  WHERE n.queue IS NOT NULL
    AND n.number < %(queues)s::bigint
)
SELECT n.queue, h.waiting, h.waits, h.orphans,
       (SELECT pg_catalog.count(*)
        FROM pgjobs.nodes AS c
        WHERE n.queue = ANY (c.queues)
          AND c.heartbeat_at > pg_catalog.now() - c.lease * interval '1 second')
FROM names AS n
CROSS JOIN LATERAL (
  SELECT pg_catalog.count(*) FILTER (WHERE f.waits) AS waiting,
         extract(epoch FROM pg_catalog.now() - pg_catalog.min(f.inserted_at) FILTER (WHERE f.waits))::float8
           AS waits,
         pg_catalog.count(*) FILTER (
           WHERE f.claimed_by IS NOT NULL
             AND NOT EXISTS (SELECT FROM pgjobs.nodes AS d WHERE d.node = f.claimed_by)) AS orphans
  FROM (
    SELECT m.claimed_by, greatest(m.inserted_at, '0001-01-03') AS inserted_at,
           m.durable AND m.claimed_by IS NULL
             AND (m.expires_at IS NULL OR m.expires_at > pg_catalog.now())
             AND m.inserted_at < pg_catalog.now() - %(seconds)s::float8 * interval '1 second' AS waits
    FROM pgjobs.messages AS m
    WHERE m.queue = n.queue
    ORDER BY m.priority, m.id
    LIMIT %(depth)s::bigint
  ) AS f
) AS h
WHERE n.queue IS NOT NULL
ORDER BY n.queue
