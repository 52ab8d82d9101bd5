WITH released AS (
  UPDATE pgjobs.messages AS m
  SET claimed_by = NULL,
      redelivered = true
  WHERE m.id = ANY (%(ids)s::bigint[])
    AND m.claimed_by = %(node)s::uuid
  RETURNING m.queue
)
SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || queue) FROM (SELECT DISTINCT queue FROM released) AS r
