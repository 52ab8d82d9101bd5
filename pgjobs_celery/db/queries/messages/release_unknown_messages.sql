-- As release_unknown_jobs: messages that were claimed although the answer never came.
WITH released AS (
  UPDATE pgjobs.messages AS m
  SET claimed_by = NULL
  WHERE m.claimed_by = %(node)s::uuid
    AND m.id <> ALL (%(known)s::bigint[])
  RETURNING m.queue
)
SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || queue) FROM (SELECT DISTINCT queue FROM released) AS r
