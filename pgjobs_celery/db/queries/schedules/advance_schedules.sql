-- Move entries on from the tick that this beat takes for their next: an entry with another next tick
-- was moved by another beat, a locked one is just being moved, and one of another version was changed.
-- The beat that gets the name back publishes the ticks in this transaction.
WITH asked AS (
  SELECT *
  FROM unnest(%(names)s::text[], %(versions)s::bigint[], %(expected)s::timestamptz[],
              %(nexts)s::timestamptz[], %(lasts)s::timestamptz[], %(task_ids)s::text[],
              %(counts)s::integer[])
    AS u (name, version, expected, next, last, task_id, count)
), held AS MATERIALIZED (
  SELECT s.name
  FROM pgjobs.schedules AS s
  JOIN asked AS a ON a.name = s.name
  WHERE s.app = %(app)s
    AND s.next_run_at = a.expected
    AND s.version = a.version
    AND s.paused_at IS NULL
  FOR UPDATE OF s SKIP LOCKED
)
UPDATE pgjobs.schedules AS s
SET next_run_at = a.next,
    last_run_at = coalesce(a.last, s.last_run_at),
    last_task_id = coalesce(a.task_id, s.last_task_id),
    total_run_count = least(s.total_run_count::numeric + a.count::numeric, 9223372036854775807)::bigint
FROM held AS h
JOIN asked AS a ON a.name = h.name
WHERE s.app = %(app)s AND s.name = h.name
RETURNING s.name
