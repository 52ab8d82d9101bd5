-- The queues of which publishers must know more than their names: they are fair, or may be full.
SELECT l.queue, l.fair_by, l.max_depth, l.on_full, l.full_wait, l.by_hand
FROM pgjobs.limits AS l
WHERE l.fair_by IS NOT NULL
   OR l.max_depth IS NOT NULL
   OR pg_catalog.cardinality(l.by_hand) > 0
ORDER BY l.queue
LIMIT %(most)s::bigint
