-- Delete queues that go with their consumers, or after a time of their own choice without use
-- (x-expires), and that no process uses. A consumer touches its queue every 30 s; a worker that cannot,
-- during a long task of the solo pool, has named its queues with its heartbeat. The queues of a dead
-- node were marked by the node that buried it. Bindings and messages go too.
WITH gone AS MATERIALIZED (
  SELECT q.name
  FROM pgjobs.queues AS q
  WHERE (q.owner IS NOT NULL OR q.expires_after IS NOT NULL)
    AND q.used_at < pg_catalog.now() - greatest(q.expires_after, 120) * interval '1 second'
    AND NOT EXISTS (
      SELECT
      FROM pgjobs.nodes AS n
      WHERE q.name = ANY (n.queues)
        AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second')
  FOR UPDATE SKIP LOCKED
), unbound AS (
  DELETE FROM pgjobs.bindings AS b USING gone WHERE b.queue = gone.name
), emptied AS (
  DELETE FROM pgjobs.messages AS m USING gone WHERE m.queue = gone.name
), reaped AS (
  DELETE FROM pgjobs.queues AS q USING gone WHERE q.name = gone.name RETURNING 1
)
SELECT pg_catalog.count(*) FROM reaped
