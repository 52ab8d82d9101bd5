-- The queues among these that have lanes, or jobs that are on their way into one, or rules of the queue by which
-- jobs must go into one. Asked with a look at everything: 60 us for a queue that has none of these.
SELECT f.queue, f.is_sorted
FROM (
  SELECT q.queue,
         -- Each by itself: as EXISTS they might be read whole, and hashed.
         coalesce((
           SELECT l.fair_by IS NOT NULL FROM pgjobs.limits AS l WHERE l.queue = q.queue), false)
         OR coalesce((
           SELECT true FROM pgjobs.flows AS o
           WHERE o.flow IN ('rate/queue/' || q.flow, 'running/queue/' || q.flow)
             AND o.amount IS NOT NULL
           LIMIT 1), false) AS is_sorted,
         coalesce((
           SELECT true FROM pgjobs.arrivals AS a
           WHERE a.queue = q.queue
             AND a.xid >= coalesce((
               SELECT r.absorbed FROM pgjobs.rounds AS r WHERE r.queue = q.queue
               ORDER BY r.turn DESC LIMIT 1), '0'::xid8)
           LIMIT 1), false) AS has_arrivals,
         coalesce((
           SELECT true FROM pgjobs.lanes AS l WHERE l.queue = q.queue LIMIT 1), false) AS has_lanes
  FROM unnest(%(queues)s::text[], %(flows)s::text[]) AS q (queue, flow)
) AS f
WHERE f.is_sorted OR f.has_arrivals OR f.has_lanes
