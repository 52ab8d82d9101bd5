WITH purged AS (
  DELETE FROM pgjobs.messages AS m
  WHERE m.queue = %(queue)s
    AND m.claimed_by IS NULL
  RETURNING 1
)
SELECT pg_catalog.count(*) FROM purged
