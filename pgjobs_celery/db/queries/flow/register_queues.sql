-- By which path queues are fair and how many jobs may wait in them, as the code of a worker has it; not where that
-- was set by hand. Written where it is otherwise than before.
INSERT INTO pgjobs.limits AS l (queue, fair_by, ageing, max_depth, on_full, full_wait)
SELECT n.queue, n.fair_by, n.ageing, n.max_depth, n.on_full, n.full_wait
FROM unnest(%(queues)s::text[], %(paths)s::text[], %(ageings)s::double precision[], %(depths)s::integer[],
            %(choices)s::text[], %(waits)s::double precision[])
     AS n (queue, fair_by, ageing, max_depth, on_full, full_wait)
LEFT JOIN pgjobs.limits AS o ON o.queue = n.queue
WHERE (n.fair_by, n.ageing) IS DISTINCT FROM (o.fair_by, o.ageing)
      AND NOT coalesce('fair_by' = ANY (o.by_hand), false)
   OR (n.max_depth, n.on_full, n.full_wait) IS DISTINCT FROM (o.max_depth, o.on_full, o.full_wait)
      AND NOT coalesce('max_depth' = ANY (o.by_hand), false)
ORDER BY n.queue
ON CONFLICT (queue) DO UPDATE
SET fair_by = CASE WHEN 'fair_by' = ANY (l.by_hand) THEN l.fair_by ELSE excluded.fair_by END,
    ageing = CASE WHEN 'fair_by' = ANY (l.by_hand) THEN l.ageing ELSE excluded.ageing END,
    max_depth = CASE WHEN 'max_depth' = ANY (l.by_hand) THEN l.max_depth ELSE excluded.max_depth END,
    on_full = CASE WHEN 'max_depth' = ANY (l.by_hand) THEN l.on_full ELSE excluded.on_full END,
    full_wait = CASE WHEN 'max_depth' = ANY (l.by_hand) THEN l.full_wait ELSE excluded.full_wait END
