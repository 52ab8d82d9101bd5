-- Keep a receipt for each of these jobs, unless another has its task and key: those that were kept. One
-- whose time is over makes way, but not while its job has not ended. The second caller here waits for the
-- first at the index until that has committed, and then finds its receipt; if that rolled back, the
-- receipt is the second one's. In the order of the keys, so that two callers with the same keys do not
-- wait for each other.
WITH given AS MATERIALIZED (
  SELECT u.task, u.key, u.task_id, u.arguments, u.seconds
  FROM unnest(
    %(tasks)s::text[], %(keys)s::text[], %(task_ids)s::text[], %(arguments)s::bytea[],
    %(seconds)s::double precision[]
  ) AS u (task, key, task_id, arguments, seconds)
), expired AS (
  DELETE FROM pgjobs.receipts AS r
  USING given AS g
  WHERE r.task = g.task
    AND r.key = g.key
    AND r.expires_at <= pg_catalog.now()
    AND NOT EXISTS (
      SELECT FROM pgjobs.jobs AS j WHERE j.task_id = r.task_id AND j.finished_at IS NULL)
  RETURNING 1
)
INSERT INTO pgjobs.receipts (task, key, task_id, arguments, expires_at)
SELECT g.task, g.key, g.task_id, g.arguments, pg_catalog.now() + g.seconds * interval '1 second'
-- Counted, so that the others are gone first.
FROM given AS g, (SELECT pg_catalog.count(*) FROM expired) AS f
ORDER BY g.task COLLATE "C", g.key COLLATE "C"
ON CONFLICT DO NOTHING
RETURNING task, key
