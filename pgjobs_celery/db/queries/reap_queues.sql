-- Queues that nobody can use any more: their owner is gone, or they were not used for longer than
-- they wanted to be kept (x-expires). With their bindings and messages.
WITH gone AS MATERIALIZED (
  SELECT q.name
  FROM pgjobs.queues AS q
  WHERE (q.owner IS NOT NULL
         AND q.inserted_at < now() - interval '1 minute'
         AND NOT EXISTS (SELECT FROM pgjobs.nodes AS n WHERE n.node = q.owner))
     OR q.used_at < now() - q.expires_after * interval '1 second'
  FOR UPDATE SKIP LOCKED
), unbound AS (
  DELETE FROM pgjobs.bindings AS b USING gone WHERE b.queue = gone.name
), emptied AS (
  DELETE FROM pgjobs.messages AS m USING gone WHERE m.queue = gone.name
), reaped AS (
  DELETE FROM pgjobs.queues AS q USING gone WHERE q.name = gone.name RETURNING 1
)
SELECT count(*) FROM reaped
