-- By which path queues are fair, as the code of a worker has it; not where that was set by hand.
INSERT INTO pgjobs.limits AS l (queue, fair_by)
SELECT n.queue, n.path
FROM unnest(%(queues)s::text[], %(paths)s::text[]) AS n (queue, path)
WHERE n.path IS DISTINCT FROM (SELECT o.fair_by FROM pgjobs.limits AS o WHERE o.queue = n.queue)
ORDER BY n.queue
ON CONFLICT (queue) DO UPDATE
SET fair_by = excluded.fair_by
WHERE NOT 'fair_by' = ANY (l.by_hand)
