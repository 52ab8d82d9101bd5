-- The queues among these that have lanes, or jobs that are on their way into one, or rules of the queue by which
-- jobs must go into one. Asked with a look at everything: 60 us for a queue that has none of these.
SELECT q.queue,
       EXISTS (
         SELECT FROM pgjobs.limits AS l WHERE l.queue = q.queue AND l.fair_by IS NOT NULL)
       OR EXISTS (
         SELECT FROM pgjobs.flows AS f
         WHERE f.flow IN ('rate/queue/' || q.flow, 'running/queue/' || q.flow)
           AND f.amount IS NOT NULL)
FROM unnest(%(queues)s::text[], %(flows)s::text[]) AS q (queue, flow)
WHERE EXISTS (
    SELECT
    FROM pgjobs.arrivals AS a
    WHERE a.queue = q.queue
      AND a.xid >= coalesce((
        SELECT r.absorbed FROM pgjobs.rounds AS r WHERE r.queue = q.queue ORDER BY r.turn DESC LIMIT 1), '0'::xid8))
  OR EXISTS (SELECT FROM pgjobs.lanes AS l WHERE l.queue = q.queue)
  OR EXISTS (SELECT FROM pgjobs.limits AS l WHERE l.queue = q.queue AND l.fair_by IS NOT NULL)
  OR EXISTS (
    SELECT FROM pgjobs.flows AS f
    WHERE f.flow IN ('rate/queue/' || q.flow, 'running/queue/' || q.flow)
      AND f.amount IS NOT NULL)
