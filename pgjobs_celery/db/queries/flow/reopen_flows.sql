-- The rules of these flows have changed: lanes that these have shut until a time are looked at anew, for it may be
-- an hour too late. Under the lock of their queues. What waits for the end of a job is looked at in any case.
UPDATE pgjobs.lanes AS l
SET shut_until = pg_catalog.clock_timestamp()
WHERE l.queue = ANY (%(queues)s::text[])
  AND l.shut_until IS NOT NULL
  AND l.shut_until > pg_catalog.clock_timestamp()
  AND l.shut_until < 'infinity'
  AND EXISTS (
    SELECT FROM pg_catalog.unnest(l.gates) AS g (gate)
    WHERE pg_catalog.split_part(g.gate, '=', 1) = ANY (%(flows)s::text[]))
