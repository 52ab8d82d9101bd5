-- The jobs that outcomes have just put back, in this transaction, for another attempt or because they were
-- snoozed: of those no row tells that so many attempts have ended. Sent only with such outcomes; the number
-- of the transaction keeps out what was written before and is sent once more.
INSERT INTO pgjobs.tally (task, queue, state)
SELECT j.task, j.queue, CASE j.state WHEN 'retryable' THEN 'retried' ELSE 'snoozed' END
FROM pgjobs.jobs AS j
WHERE j.id = ANY (%(ids)s::bigint[])
  AND j.state IN ('retryable', 'scheduled')
  AND j.xmin = pg_catalog.pg_current_xact_id()::xid
