-- The queues among these that have lanes, or jobs that are on their way into one. Asked with a look at everything:
-- 60 us for a queue that has neither. A first look makes the plan, too, so it names few tables.
SELECT q.queue
FROM pg_catalog.unnest(%(queues)s::text[]) AS q (queue)
WHERE coalesce(
  (SELECT true FROM pgjobs.lanes AS l WHERE l.queue = q.queue LIMIT 1),
  (SELECT true
   FROM pgjobs.arrivals AS a
   WHERE a.queue = q.queue
     AND a.xid >= coalesce((
       SELECT r.absorbed FROM pgjobs.rounds AS r WHERE r.queue = q.queue
       ORDER BY r.turn DESC LIMIT 1), '0'::xid8)
   LIMIT 1))
