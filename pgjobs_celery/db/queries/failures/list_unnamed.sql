-- Jobs that failed for good before their failures were named, or whose rows a hand has written: some of the
-- newest among so many ends.
SELECT n.task_id, n.task, n.queue, n.attempted_by, n.finished_at,
       -- Small as it is stored, compressed, and then as it is read.
       CASE WHEN pg_catalog.pg_column_size(n.errors) < 100000
                 AND pg_catalog.octet_length((n.errors -> -1)::text) < 100000
            THEN (n.errors -> -1)::text END
FROM (
  SELECT j.task_id, j.task, j.queue, j.attempted_by, j.state, j.finished_at, j.fingerprint, j.errors
  FROM pgjobs.jobs AS j
  WHERE j.finished_at > %(since)s::timestamptz
    AND j.finished_at <= least(%(until)s::timestamptz, pg_catalog.now())
  ORDER BY j.finished_at DESC
  LIMIT %(depth)s::bigint
) AS n
WHERE n.state = 'discarded'
  AND n.fingerprint IS NULL
ORDER BY n.finished_at DESC
LIMIT %(limit)s::bigint
