-- Before what was parked for them goes back: pauses whose time is over are over for a worker that is about to
-- park a job as well. It waits for those that do, and they look again once this is committed.
UPDATE pgjobs.pauses AS p
SET until = p.until
WHERE p.until <= pg_catalog.now()
RETURNING p.kind, p.name, p.queue
