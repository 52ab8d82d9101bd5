-- The pauses that hold, by the clock as it is now, and that nobody ends before this transaction does.
SELECT p.kind, p.name, p.queue
FROM pgjobs.pauses AS p
WHERE p.until IS NULL
   OR p.until > pg_catalog.clock_timestamp()
FOR SHARE
