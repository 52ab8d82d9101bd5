-- End a pause. The row stays until all that was parked for it is back in line (forget_pauses); a worker that
-- parks jobs for it holds a share lock, so that none is parked once this is committed.
UPDATE pgjobs.pauses AS p
SET until = pg_catalog.now()
WHERE p.kind = %(kind)s
  AND p.name = %(name)s
  AND p.queue = %(queue)s
  AND (p.until IS NULL OR p.until > pg_catalog.now())
RETURNING p.name
