-- No tick of it is published from now on; since when it is so, if it is already.
UPDATE pgjobs.schedules
SET paused_at = coalesce(paused_at, pg_catalog.now()),
    version = pg_catalog.nextval('pgjobs.schedules_version')
WHERE app = %(app)s AND name = %(name)s
RETURNING name
