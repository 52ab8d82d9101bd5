-- Pause a queue; true if it was not paused yet: one that is paused again counts as paused since the first
-- time.
INSERT INTO pgjobs.limits AS l (queue, paused_at)
VALUES (%(queue)s, pg_catalog.now())
ON CONFLICT (queue) DO UPDATE SET paused_at = coalesce(l.paused_at, excluded.paused_at)
RETURNING l.paused_at = pg_catalog.now()
