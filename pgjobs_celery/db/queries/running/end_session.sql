-- End the session of a transaction that waits for a client that has gone: the server may not notice
-- for hours, and the row stays locked. Only where it waits, and only in that very transaction.
SELECT pg_catalog.pg_terminate_backend(a.pid)
FROM pg_catalog.pg_stat_activity AS a
WHERE a.pid = %(pid)s::integer
  AND a.backend_xid = (%(xid)s::text::xid8)::xid
  AND a.state IN ('idle in transaction', 'idle in transaction (aborted)')
